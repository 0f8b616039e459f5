//! Tunnels to this host: where the network header of the packet in a tunnel is. Linux: `tunnel4_rcv`, `ip_tunnel_rcv`,
//! `ip6_tnl_rcv`, `gre_rcv`, `fou_udp_recv`, `gue_udp_recv`.
//!
//! Read are IP in IP (RFC 2003, 2473, 4213), GRE (RFC 2784, 2890), IP in UDP as Linux' FOU has it, and GUE
//! (draft-ietf-intarea-gue) without control messages. Checksums of UDP and GRE are left to the kernel, as TCP's is.

mod decap;

pub use decap::{Decap, MAX_PORTS, MAX_SOURCES, NoTunnels, OuterSource, Tunnels};

use super::{
    addresses::Addresses,
    ethernet,
    extensions::{DESTINATION, FRAGMENT},
    frame::{Frame, NotSyn, Version, View as _, hidden},
    ipv4, ipv6,
};

/// IPv4 in IP.
const IPIP: u8 = 4;
/// UDP.
const UDP: u8 = 17;
/// IPv6 in IP.
const IPV6: u8 = 41;
/// GRE.
const GRE: u8 = 47;

/// No header in front of an inner packet that is read leads further.
pub(super) const OFFSET_MASK: u64 = 0xff;
/// Bytes of an extension header of the least length.
const EXTENSION_LEN: usize = 8;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// GUE's variant is the two highest bits of its first byte.
const VARIANT_SHIFT: u8 = 6;
/// Mask of the ECN field (RFC 3168), and its value "congestion experienced".
const ECN: u8 = 3;
const CE: u8 = 3;

/// The payload of an outer packet.
struct Outer {
    protocol: u8,
    /// Offset of the payload from the frame's first byte.
    payload: usize,
    /// Offset of the packet's end from the frame's first byte.
    end: usize,
    /// A router marked it with [`CE`].
    congestion: bool,
}

/// Offset and version of the network header in the tunnel whose outer header, of this version, is at `at`. `None` where it is no
/// tunnel that is read through.
///
/// # Errors
///
/// [`NotSyn::Other`] where the kernel drops the packet, or no IP packet is in it; [`NotSyn::Unparsed`] for a tunnel in a
/// tunnel, a fragment of an outer packet, headers that are not read, or an inner packet longer than the outer one.
#[inline(always)]
pub(super) fn inner<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: &Version,
    tunnels: impl Tunnels,
) -> Result<Option<(usize, Version)>, NotSyn> {
    let Some(outer) = outer(frame, at, version, tunnels)? else {
        return Ok(None);
    };
    let (at, version) = match outer.protocol {
        IPIP => (outer.payload, Version::V4),
        IPV6 => (outer.payload, Version::V6),
        GRE => behind_gre(frame, outer.payload)?,
        _ => match behind_udp(frame, outer.payload, tunnels)? {
            Some(inner) => inner,
            None => return Ok(None),
        },
    };
    // The verifier then goes on once, not once for each kind of tunnel.
    let (at, version) = hidden::<_, OFFSET_MASK>(frame, at, version);
    let outer_end = frame.barrier_var(outer.end as u64 | u64::from(outer.congestion) << 32);
    let (end, marked) = (outer_end & 0xffff_ffff, outer_end >> 32 != 0);
    check_inner(frame, at, &version, end as usize, marked)?;
    Ok(Some((at, version)))
}

/// Source and destination of the outer header at `at`, by its version; `None` where it is not readable, or an IPv4 header whose
/// checksum is wrong.
#[inline(always)]
pub fn outer_addresses<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Addresses> {
    let [first]: [u8; 1] = frame.bytes(at)?;
    // All words are set for either version: the verifier does not follow which are used.
    let (is_v6, words) = if first >> 4 == 6 {
        (1, frame.words::<4>(at + ipv6::SOURCE)?)
    } else if ipv4::is_intact(frame, at) {
        let [both] = frame.words::<1>(at + ipv4::SOURCE)?;
        (0, [both, 0, 0, 0])
    } else {
        return None;
    };
    Some(if frame.barrier_var(is_v6) == 0 {
        Addresses::V4(words[0])
    } else {
        Addresses::V6(words)
    })
}

/// The outer header at `at`, if its payload may be a tunnel.
///
/// # Errors
///
/// As for [`inner`].
#[inline(always)]
fn outer<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: &Version,
    tunnels: impl Tunnels,
) -> Result<Option<Outer>, NotSyn> {
    match version {
        Version::V4 => outer_v4(frame, at, tunnels),
        Version::V6 => outer_v6(frame, at, tunnels),
    }
}

#[inline(always)]
fn outer_v4<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    tunnels: impl Tunnels,
) -> Result<Option<Outer>, NotSyn> {
    /// The fragment offset.
    const OFFSET: u16 = 0x1fff;
    let header = frame
        .view::<{ ipv4::MIN_HEADER_LEN }>(at)
        .ok_or(NotSyn::Unparsed)?;
    let protocol = header.byte(ipv4::PROTOCOL);
    if !may_be_tunnel(protocol, tunnels) {
        return Ok(None);
    }
    let Some(header_len) = ipv4::header_len(&header) else {
        return Ok(None);
    };
    let payload = at + header_len;
    let fragment = header.half(ipv4::FRAGMENT) & ipv4::FRAGMENT_MASK;
    if fragment != 0 {
        let is_first = fragment & OFFSET == 0;
        return fragment_of(frame, protocol, payload, is_first, tunnels);
    }
    Ok(Some(Outer {
        protocol,
        payload,
        end: at + ipv4::total_len(&header, 0),
        congestion: header.byte(ipv4::TOS) & ECN == CE,
    }))
}

#[inline(always)]
fn outer_v6<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    tunnels: impl Tunnels,
) -> Result<Option<Outer>, NotSyn> {
    /// The fragment offset in a fragment header's second half word.
    const OFFSET: u16 = 0xfff8;
    let header = frame
        .view::<{ ipv6::HEADER_LEN }>(at)
        .ok_or(NotSyn::Unparsed)?;
    let first = header.byte(ipv6::NEXT_HEADER);
    let mut protocol = first;
    let mut payload = at + ipv6::HEADER_LEN;
    // Linux' ip6_tunnel has the tunnel encapsulation limit in a destination header (RFC 2473, section 4.1.1).
    if matches!(first, DESTINATION | FRAGMENT) {
        let extension = frame
            .view::<EXTENSION_LEN>(payload)
            .ok_or(NotSyn::Unparsed)?;
        protocol = extension.byte(0);
        payload += EXTENSION_LEN;
        if first == FRAGMENT && may_be_tunnel(protocol, tunnels) {
            let is_first = extension.half(2) & OFFSET == 0;
            return fragment_of(frame, protocol, payload, is_first, tunnels);
        }
        if first == DESTINATION && extension.byte(1) != 0 {
            return Ok(None);
        }
    }
    if !may_be_tunnel(protocol, tunnels) || header.byte(0) >> 4 != 6 {
        return Ok(None);
    }
    Ok(Some(Outer {
        protocol,
        payload,
        end: at + ipv6::total_len(&header, 0),
        congestion: (header.half(0) >> 4) as u8 & ECN == CE,
    }))
}

/// A fragment of an outer packet, whose payload is at `payload`. Of UDP, the first one tells whether it is a tunnel's.
#[inline(always)]
fn fragment_of<F: Frame + ?Sized>(
    frame: &F,
    protocol: u8,
    payload: usize,
    is_first: bool,
    tunnels: impl Tunnels,
) -> Result<Option<Outer>, NotSyn> {
    if protocol != UDP || (is_first && port(frame, payload, tunnels).is_some()) {
        return Err(NotSyn::Unparsed);
    }
    Ok(None)
}

/// `true` if a packet of `protocol` may be a tunnel that is read through.
#[inline(always)]
fn may_be_tunnel(protocol: u8, tunnels: impl Tunnels) -> bool {
    let bit = match protocol {
        IPIP | IPV6 => Decap::IPIP,
        GRE => Decap::GRE,
        UDP => Decap::UDP,
        _ => return false,
    };
    tunnels.protocols() & bit != 0
}

/// Offset and version of the network header behind the GRE header at `at`.
///
/// # Errors
///
/// As for [`inner`].
#[inline(always)]
fn behind_gre<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<(usize, Version), NotSyn> {
    const LEN: usize = 4;
    /// Each adds a word.
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    /// The kernel refuses routing, and other versions are PPTP's.
    const ROUTING_AND_VERSION: u16 = 0x4007;
    let header = frame.view::<LEN>(at).ok_or(NotSyn::Unparsed)?;
    let flags = header.half(0);
    if flags & ROUTING_AND_VERSION != 0 {
        return Err(NotSyn::Other);
    }
    let version = match header.half(2) {
        ethernet::IPV4 => Version::V4,
        ethernet::IPV6 => Version::V6,
        _ => return Err(NotSyn::Other),
    };
    let mut inner = at + LEN;
    for flag in [CHECKSUM, KEY, SEQUENCE] {
        if flags & flag != 0 {
            inner += size_of::<u32>();
        }
    }
    Ok((inner, version))
}

/// Offset and version of the network header behind the UDP header at `at`; `None` where its port is none of a tunnel's.
///
/// # Errors
///
/// As for [`inner`].
#[inline(always)]
fn behind_udp<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    tunnels: impl Tunnels,
) -> Result<Option<(usize, Version)>, NotSyn> {
    let Some(port) = port(frame, at, tunnels) else {
        return Ok(None);
    };
    let at = at + UDP_LEN;
    let [first]: [u8; 1] = frame.bytes(at).ok_or(NotSyn::Unparsed)?;
    if port & Decap::GUE != 0 && first >> VARIANT_SHIFT == 0 {
        return behind_gue(frame, at).map(Some);
    }
    // IP itself, whose versions are no other variant of GUE.
    match first >> 4 {
        4 => Ok(Some((at, Version::V4))),
        6 => Ok(Some((at, Version::V6))),
        _ => Err(NotSyn::Other),
    }
}

/// The rule for the destination port of the UDP header at `at`.
#[inline(always)]
fn port<F: Frame + ?Sized>(frame: &F, at: usize, tunnels: impl Tunnels) -> Option<u32> {
    let header = frame.view::<UDP_LEN>(at)?;
    let destination = header.half(2);
    for index in 0..MAX_PORTS {
        let rule = tunnels.port(index);
        if rule != 0 && rule as u16 == destination {
            return Some(rule);
        }
    }
    None
}

/// Offset and version of the network header behind the GUE header, of variant 0, at `at`.
///
/// # Errors
///
/// As for [`inner`].
#[inline(always)]
fn behind_gue<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<(usize, Version), NotSyn> {
    const LEN: usize = 4;
    const CONTROL: u8 = 0x20;
    /// Words of optional fields.
    const OPTIONAL: u8 = 0x1f;
    let header = frame.view::<LEN>(at).ok_or(NotSyn::Unparsed)?;
    let first = header.byte(0);
    if first & CONTROL != 0 {
        return Err(NotSyn::Other);
    }
    // Optional fields may say that the inner checksum is elsewhere (`gue_remcsum`).
    if header.half(2) != 0 {
        return Err(NotSyn::Unparsed);
    }
    let inner = at + LEN + usize::from(first & OPTIONAL) * size_of::<u32>();
    match header.byte(1) {
        IPIP => Ok((inner, Version::V4)),
        IPV6 => Ok((inner, Version::V6)),
        GRE => Err(NotSyn::Unparsed),
        _ => Err(NotSyn::Other),
    }
}

/// Checks what the kernel asks of the inner header at `at`, in an outer packet that ends at `end` and was `marked` with [`CE`].
///
/// # Errors
///
/// As for [`inner`].
#[inline(always)]
fn check_inner<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: &Version,
    end: usize,
    marked: bool,
) -> Result<(), NotSyn> {
    let header = frame
        .view::<{ ipv4::MIN_HEADER_LEN }>(at)
        .ok_or(NotSyn::Unparsed)?;
    let (protocol, len, ecn) = match version {
        Version::V4 => (
            header.byte(ipv4::PROTOCOL),
            ipv4::total_len(&header, 0),
            header.byte(ipv4::TOS),
        ),
        Version::V6 => (
            header.byte(ipv6::NEXT_HEADER),
            ipv6::total_len(&header, 0),
            (header.half(0) >> 4) as u8,
        ),
    };
    // Who has no ECN would not learn of the congestion: the kernel drops it (`INET_ECN_decapsulate`).
    if marked && ecn & ECN == 0 {
        return Err(NotSyn::Other);
    }
    let is_cut = at + len > end || (frame.len() < end && frame.whole_len() < end);
    if is_cut || matches!(protocol, IPIP | IPV6 | GRE) {
        return Err(NotSyn::Unparsed);
    }
    Ok(())
}
