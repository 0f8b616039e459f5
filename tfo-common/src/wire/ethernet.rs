//! Ethernet II (IEEE 802.3) and VLAN tags (IEEE 802.1Q): where the network header starts, and which it
//! is. Linux: `eth_type_trans`, `skb_vlan_untag`.
//!
//! A tag is passed over whatever its VLAN: it is for the kernel's VLAN devices to take the frame or not.

use super::frame::{Frame, NotSyn, Version, View as _};

/// Bytes of an Ethernet header without VLAN tags.
pub const HEADER_LEN: usize = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: usize = 4;
/// Most VLAN tags that are passed over.
pub const MAX_TAGS: usize = 2;

/// Any length of headers up to the network header has no other bits.
pub(super) const LEN_MASK: u64 = 0x1f;

/// IPv4's `EtherType`.
pub const IPV4: u16 = 0x0800;
/// IPv6's `EtherType`.
pub const IPV6: u16 = 0x86dd;
/// An 802.1Q customer tag.
pub const VLAN: u16 = 0x8100;
/// An 802.1ad service tag.
pub const VLAN_SERVICE: u16 = 0x88a8;

/// The MAC address in the first bytes of a little-endian word, such as a frame's first: its destination.
#[inline(always)]
pub const fn mac(word: u64) -> u64 {
    word & ((1 << 48) - 1)
}

/// Offset of the network header, and which it is.
///
/// # Errors
///
/// [`NotSyn::Other`] where it is not IP's; [`NotSyn::Unparsed`] behind more than [`MAX_TAGS`] tags, or
/// where the frame ends before.
#[inline(always)]
pub(super) fn network<F: Frame + ?Sized>(frame: &F) -> Result<(usize, Version), NotSyn> {
    let header = frame.view::<HEADER_LEN>(0).ok_or(NotSyn::Unparsed)?;
    let mut ether_type = header.half(HEADER_LEN - 2);
    let mut at = HEADER_LEN;
    for _ in 0..MAX_TAGS {
        if !matches!(ether_type, VLAN | VLAN_SERVICE) {
            break;
        }
        let tag = frame.view::<TAG_LEN>(at).ok_or(NotSyn::Unparsed)?;
        ether_type = tag.half(TAG_LEN - 2);
        at += TAG_LEN;
    }
    match ether_type {
        IPV4 => Ok((at, Version::V4)),
        IPV6 => Ok((at, Version::V6)),
        VLAN | VLAN_SERVICE => Err(NotSyn::Unparsed),
        _ => Err(NotSyn::Other),
    }
}
