//! The programs' constants.

use tfo_common::{
    abi::{DeviceOffsets, SocketOffsets},
    wire::{addresses::PrefixMask, tunnel::Decap},
};

use crate::{
    kernel::types::{self, Offsets},
    model::{Mirror, Settings},
};

/// Values of the object's constants, set before it is loaded.
pub(super) struct Constants {
    /// Zeroed for [`Mirror::Packet`].
    pub(super) offsets: SocketOffsets,
    pub(super) device: DeviceOffsets,
    pub(super) sources: PrefixMask,
    pub(super) decap: Decap,
    /// The settings in effect: [`Mirror::Packet`] where the kernel's types lack a field.
    pub(super) settings: Settings,
    /// Why the mirror is not exact, where it was to be.
    pub(super) not_exact: Option<String>,
}

impl Constants {
    /// Finds the offsets of fields in the kernel's BTF, for an exact mirror. `namespace`: the cookie of the interface's
    /// network namespace, 0 where the program is for no interface; `casts`: contexts lead to devices.
    pub(super) fn new(mut settings: Settings, namespace: u64, casts: bool) -> Self {
        let unknown = (SocketOffsets::default(), DeviceOffsets::default());
        let find = |offsets: &Offsets| {
            let device = match &offsets.devices {
                _ if !casts => unknown.1,
                Ok(known) => *known,
                Err(error) => return Err(error.to_string()),
            };
            Ok((
                offsets.sockets,
                DeviceOffsets {
                    namespace,
                    ..device
                },
            ))
        };
        let (found, not_exact) = match settings.mirror {
            Mirror::Packet => (unknown, None),
            Mirror::Exact => {
                let offsets = types::offsets().map_err(|error| error.to_string());
                match offsets.and_then(find) {
                    Ok(found) => (found, None),
                    Err(error) => (unknown, Some(error)),
                }
            }
        };
        let (offsets, device) = found;
        if offsets.known == 0 {
            settings.mirror = Mirror::Packet;
        }
        Self {
            offsets,
            device,
            sources: settings.sources.constant(),
            decap: settings.decap.constant(),
            settings,
            not_exact,
        }
    }
}
