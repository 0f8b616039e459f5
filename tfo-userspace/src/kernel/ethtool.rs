//! Driver queries: `SIOCETHTOOL` of ioctl(2), which takes no privilege.

use std::{ffi::CStr, net::UdpSocket, os::fd::AsRawFd as _};

/// Of `linux/ethtool.h`.
const GET_DRIVER: u32 = 0x3;
const GET_RX_CHECKSUM: u32 = 0x14;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
/// `ETH_FLAG_RXVLAN`.
const RX_VLAN: u32 = 1 << 8;
/// `ETH_FLAG_LRO`.
const LRO: u32 = 1 << 15;
/// `ETH_SS_FEATURES`.
const FEATURES: u32 = 4;
/// Features that are read, at most, and words of 32 of them.
const MAX_FEATURES: usize = 256;
const FEATURE_WORDS: usize = MAX_FEATURES / 32;

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

/// `struct ethtool_sset_info`, for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    command: u32,
    set: u32,
    len: u32,
    names: [[u8; 32]; MAX_FEATURES],
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    command: u32,
    size: u32,
    words: [FeatureWord; FEATURE_WORDS],
}

/// `struct ethtool_get_features_block`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FeatureWord {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// An offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feature {
    /// In use.
    pub on: bool,
    /// It cannot be changed.
    pub fixed: bool,
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
// SAFETY: field by field the kernel's `struct ethtool_sset_info` with one count, as `mask` names one set.
unsafe impl Request for SetInfo {}
// SAFETY: the kernel's `struct ethtool_gstrings`, with room for as many names as `feature` asks for.
unsafe impl Request for Strings {}
// SAFETY: the kernel's `struct ethtool_gfeatures`; it writes no more than `size` words.
unsafe impl Request for Features {}

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
    flag(interface, RX_VLAN)
}

/// Large receive offload is on; `None` where the driver does not tell.
pub fn lro(interface: &str) -> Option<bool> {
    flag(interface, LRO)
}

fn flag(interface: &str, flag: u32) -> Option<bool> {
    let mut value = Value {
        command: GET_FLAGS,
        data: 0,
    };
    ask(interface, &mut value)?;
    Some(value.data & flag != 0)
}

/// The offload of this name, as `ethtool -k` lists it; `None` where this kernel has none.
pub fn feature(interface: &str, name: &str) -> Option<Feature> {
    let mut info = SetInfo {
        command: GET_SET_INFO,
        reserved: 0,
        mask: 1 << FEATURES,
        count: 0,
    };
    ask(interface, &mut info)?;
    if info.mask == 0 || info.count as usize > MAX_FEATURES {
        return None;
    }
    let mut strings = Box::new(Strings {
        command: GET_STRINGS,
        set: FEATURES,
        len: info.count,
        names: [[0; 32]; MAX_FEATURES],
    });
    ask(interface, strings.as_mut())?;
    let is_it = |bytes: &[u8; 32]| {
        CStr::from_bytes_until_nul(bytes).is_ok_and(|it| it.to_bytes() == name.as_bytes())
    };
    let index = strings.names.iter().position(is_it)?;
    let mut features = Features {
        command: GET_FEATURES,
        size: FEATURE_WORDS as u32,
        words: [FeatureWord::default(); FEATURE_WORDS],
    };
    ask(interface, &mut features)?;
    let word = features.words.get(index / 32)?;
    let has = |bits: u32| bits >> (index % 32) & 1 != 0;
    Some(Feature {
        on: has(word.active),
        fixed: !has(word.available) || has(word.never_changed),
    })
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
        // Signed or not, as the architecture has it.
        *to = libc::c_char::from_ne_bytes([from]);
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
    use std::process::Command;

    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Driver>(), 196);
        assert_eq!(size_of::<Value>(), 8);
        assert_eq!(size_of::<ChannelCounts>(), 36);
        assert_eq!(size_of::<SetInfo>(), 24);
        assert_eq!(size_of::<Strings>(), 12 + 32 * MAX_FEATURES);
        assert_eq!(size_of::<Features>(), 8 + 16 * FEATURE_WORDS);
    }

    #[test]
    fn features_are_as_ethtool_lists_them() {
        let listed = Command::new("ethtool").args(["-k", "lo"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mut compared = 0;
        for line in listed.lines() {
            let Some((name, state)) = line.trim().split_once(": ") else {
                continue;
            };
            // Groups of features have names that the kernel does not know.
            let Some(found) = feature("lo", name) else {
                continue;
            };
            assert_eq!(found.on, state.starts_with("on"), "{line}");
            assert_eq!(found.fixed, state.contains("[fixed]"), "{line}");
            compared += 1;
        }
        assert!(compared > 20, "{listed}");
        assert_eq!(feature("lo", "no-such-feature"), None);
        assert_eq!(feature("no-such-if0", "rx-gro-hw"), None);
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
