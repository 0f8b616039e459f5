//! Driver queries: `SIOCETHTOOL` of ioctl(2), which takes no privilege.

use std::{ffi::CStr, net::UdpSocket, os::fd::AsRawFd as _};

/// Of `linux/ethtool.h`.
const GET_DRIVER: u32 = 0x3;
const GET_RX_CHECKSUM: u32 = 0x14;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
/// `ETH_FLAG_RXVLAN`.
const RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`: most and present numbers of queues.
#[repr(C)]
struct ChannelCounts {
    command: u32,
    max: [u32; 3],
    max_combined: u32,
    count: [u32; 3],
    combined: u32,
}

/// Pairs of a receive and a transmit queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub combined: u32,
    /// At most.
    pub max: u32,
}

/// A structure that begins with its command, and that the kernel fills in.
///
/// # Safety
///
/// It is `repr(C)` and at least as large as what the kernel writes for that command.
unsafe trait Request {}

// SAFETY: field by field the kernel's `struct ethtool_drvinfo`.
unsafe impl Request for Driver {}
// SAFETY: field by field the kernel's `struct ethtool_value`.
unsafe impl Request for Value {}
// SAFETY: field by field the kernel's `struct ethtool_channels`.
unsafe impl Request for ChannelCounts {}

/// The name of the interface's driver; `None` where the driver does not tell.
pub fn driver(interface: &str) -> Option<String> {
    let mut driver = Driver {
        command: GET_DRIVER,
        name: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        rom: [0; 32],
        reserved: [0; 12],
        counts: [0; 5],
    };
    ask(interface, &mut driver)?;
    let name = CStr::from_bytes_until_nul(&driver.name).ok()?.to_str();
    name.ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Receive checksum offload is on; `None` where the driver does not tell.
pub fn rx_checksum(interface: &str) -> Option<bool> {
    let mut value = Value {
        command: GET_RX_CHECKSUM,
        data: 0,
    };
    ask(interface, &mut value)?;
    Some(value.data != 0)
}

/// The driver removes VLAN tags from received frames (`rxvlan`); `None` where it does not tell.
pub fn strips_vlan(interface: &str) -> Option<bool> {
    let mut value = Value {
        command: GET_FLAGS,
        data: 0,
    };
    ask(interface, &mut value)?;
    Some(value.data & RX_VLAN != 0)
}

/// The queue pairs of the interface; `None` where the driver has none, or does not tell.
pub fn channels(interface: &str) -> Option<Channels> {
    let mut counts = ChannelCounts {
        command: GET_CHANNELS,
        max: [0; 3],
        max_combined: 0,
        count: [0; 3],
        combined: 0,
    };
    ask(interface, &mut counts)?;
    Some(Channels {
        combined: counts.combined,
        max: counts.max_combined,
    })
    .filter(|channels| channels.combined > 0)
}

fn ask<T: Request>(interface: &str, request: &mut T) -> Option<()> {
    // Any socket of the namespace does.
    let socket = UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))
        .ok()?;
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte has to stay 0.
    if interface.len() >= name.len() {
        return None;
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    let ifreq = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: std::ptr::from_mut(request).cast(),
        },
    };
    // SAFETY: the socket is open, the name ends with a 0, and `Request` guarantees that the structure holds
    // what the kernel writes for its command.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const ifreq) };
    (result == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Driver>(), 196);
        assert_eq!(size_of::<Value>(), 8);
        assert_eq!(size_of::<ChannelCounts>(), 36);
    }

    #[test]
    fn an_absent_interface_has_no_driver() {
        assert_eq!(driver("no-such-if0"), None);
        assert_eq!(driver("a-name-longer-than-any"), None);
        assert_eq!(rx_checksum("no-such-if0"), None);
        assert_eq!(strips_vlan("no-such-if0"), None);
        assert_eq!(channels("no-such-if0"), None);
    }
}
