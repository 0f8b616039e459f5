//! The programs' constants.

use tfo_common::{
    abi::{DeviceFacts, SocketOffsets},
    wire::addresses::PrefixMask,
};

use crate::{
    kernel::types::KernelTypes,
    model::{Mirror, Settings},
};

/// Values of the object's constants, set before it is loaded.
pub(super) struct Constants {
    /// Zeroed for [`Mirror::Packet`].
    pub(super) offsets: SocketOffsets,
    pub(super) device: DeviceFacts,
    pub(super) sources: PrefixMask,
    /// The settings in effect: [`Mirror::Packet`] where the kernel's types lack a field.
    pub(super) settings: Settings,
    /// Why the mirror is not exact, where it was to be.
    pub(super) not_exact: Option<String>,
}

impl Constants {
    /// Finds the offsets of fields in the kernel's BTF; those of sockets for an exact mirror. `namespace`: the cookie of the interface's
    /// network namespace, 0 where the program is for no interface; `casts`: contexts lead to devices.
    pub(super) fn new(mut settings: Settings, namespace: u64, casts: bool) -> Self {
        let types = KernelTypes::read();
        let device = match &types {
            Ok(types) if casts => types.device_facts().unwrap_or_default(),
            _ => DeviceFacts::default(),
        };
        let (offsets, not_exact) = match settings.mirror {
            Mirror::Packet => (SocketOffsets::default(), None),
            Mirror::Exact => match types.and_then(|types| types.socket_offsets()) {
                Ok(offsets) => (offsets, None),
                Err(error) => (SocketOffsets::default(), Some(error.to_string())),
            },
        };
        if offsets.known == 0 {
            settings.mirror = Mirror::Packet;
        }
        Self {
            offsets,
            // Whose packet it is does not depend on the mirror.
            device: DeviceFacts {
                namespace,
                ..device
            },
            sources: settings.sources.constant(),
            settings,
            not_exact,
        }
    }
}
