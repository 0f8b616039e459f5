//! The identity of the interface that was attached: a new one may get its index.

use std::path::Path;

use super::value::{read_value, write_value};
use crate::{datapath::error::DatapathError, kernel::link::Interface};

const NAME: &str = "device";

/// `IFNAMSIZ` and `MAX_ADDR_LEN`.
const MAX_NAME: usize = 16;
const MAX_ADDRESS: usize = 32;

/// Name and link-layer address when it was attached, filled with zeroes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Device {
    name: [u8; MAX_NAME],
    address: [u8; MAX_ADDRESS],
}

// SAFETY: `repr(C)` and bytes throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Device {}

impl Device {
    fn of(interface: &Interface) -> Self {
        Self {
            name: padded(interface.name.as_bytes()),
            address: padded(&interface.address),
        }
    }

    /// Interfaces keep their addresses when they are renamed; some have none.
    fn is_another(&self, present: &Self) -> bool {
        if [self.address, present.address] == [[0; MAX_ADDRESS]; 2] {
            self.name != present.name
        } else {
            self.address != present.address
        }
    }
}

fn padded<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut padded = [0; LEN];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    padded
}

/// Pins what tells `interface` from others at `path`.
pub(crate) fn write_device(path: &Path, interface: &Interface) -> Result<(), DatapathError> {
    write_value(path, NAME, Device::of(interface))
}

/// `true` if `present`, which has the index of the pins, is another interface than the one that was attached. `false` where
/// that is not known: older builds pinned nothing.
pub(crate) fn is_another_device(path: &Path, present: &Interface) -> bool {
    let attached = read_value::<Device>(path, NAME);
    attached.is_ok_and(|attached| attached.is_another(&Device::of(present)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_tells_and_else_the_name() {
        let device = |name: &str, address: &[u8]| Device {
            name: padded(name.as_bytes()),
            address: padded(address),
        };
        let attached = device("eth0", &[2, 0, 0, 0, 0, 1]);
        assert!(!attached.is_another(&device("renamed0", &[2, 0, 0, 0, 0, 1])));
        assert!(attached.is_another(&device("eth0", &[2, 0, 0, 0, 0, 2])));
        assert!(attached.is_another(&device("eth0", &[])));
        let bare = device("tun0", &[]);
        assert!(!bare.is_another(&device("tun0", &[])));
        assert!(bare.is_another(&device("tun1", &[])));
    }
}
