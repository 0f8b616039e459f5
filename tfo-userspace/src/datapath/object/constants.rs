//! The programs' constants.

use tfo_common::{abi::SocketOffsets, wire::addresses::PrefixMask};

use crate::{
    kernel::types::KernelTypes,
    model::{Mirror, Settings},
};

/// Values of the object's constants, set before it is loaded.
pub(super) struct Constants {
    /// Zeroed for [`Mirror::Packet`].
    pub(super) offsets: SocketOffsets,
    pub(super) sources: PrefixMask,
    /// The settings in effect: [`Mirror::Packet`] where the kernel's types lack a field.
    pub(super) settings: Settings,
    /// Why the mirror is not exact, where it was to be.
    pub(super) not_exact: Option<String>,
}

impl Constants {
    /// Finds the offsets of socket fields in the kernel's BTF, for an exact mirror.
    pub(super) fn new(mut settings: Settings) -> Self {
        let (offsets, not_exact) = match settings.mirror {
            Mirror::Packet => (SocketOffsets::default(), None),
            Mirror::Exact => match KernelTypes::read().and_then(|types| types.socket_offsets()) {
                Ok(offsets) => (offsets, None),
                Err(error) => (SocketOffsets::default(), Some(error.to_string())),
            },
        };
        if offsets.known == 0 {
            settings.mirror = Mirror::Packet;
        }
        Self {
            offsets,
            sources: settings.sources.constant(),
            settings,
            not_exact,
        }
    }
}
