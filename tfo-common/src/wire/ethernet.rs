//! Ethernet II (IEEE 802.3): where the network header starts, and which it is.

use super::{Frame, NotSyn};

/// Bytes of an Ethernet header without VLAN tags.
pub const HEADER_LEN: usize = 14;

/// IPv4's `EtherType`.
pub const IPV4: u16 = 0x0800;
/// IPv6's `EtherType`.
pub const IPV6: u16 = 0x86dd;
/// An 802.1Q customer tag.
pub const VLAN: u16 = 0x8100;
/// An 802.1ad service tag.
pub const VLAN_SERVICE: u16 = 0x88a8;

const ETHER_TYPE: usize = 12;

/// The frame's `EtherType`.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where the frame is shorter than its header.
#[inline(always)]
pub fn ether_type<F: Frame + ?Sized>(frame: &F) -> Result<u16, NotSyn> {
    let header: [u8; HEADER_LEN] = frame.bytes(0).ok_or(NotSyn::Unparsed)?;
    Ok(u16::from_be_bytes([
        header[ETHER_TYPE],
        header[ETHER_TYPE + 1],
    ]))
}
