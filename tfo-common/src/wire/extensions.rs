//! IPv6's extension headers (RFC 8200, section 4): where TCP starts behind them. Linux:
//! `ip6_protocol_deliver_rcu`, `ipv6_rthdr_rcv`, `ipv6_frag_rcv`.
//!
//! Only what leaves the addresses as they are is passed over, for a cookie is made of them: the kernel
//! takes the destination from a routing header that still names a hop, and the source from a home
//! address option (RFC 6275). The [`options`] in the headers of a SYN are read when it is known to be one.

pub mod options;

use super::{
    frame::{Frame, NotSyn},
    tcp,
};

/// Most extension headers that are passed over.
pub const MAX: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Bytes of the shortest header, and the unit of their lengths.
const UNIT: u64 = 8;
/// Bytes of the shortest destination header with a home address option: 2, and the option's 18, in
/// whole units.
const HOME_ADDRESS_LEN: u64 = 24;
/// Fragment offset and "more fragments", as the header's third and fourth byte in a little-endian word.
const FRAGMENT_MASK: u64 = 0xf9ff_0000;

/// The offsets that [`MAX`] headers behind an IPv6 header can lead to have no other bits.
pub(super) const OFFSET_MASK: u64 = 0x3fff;

/// Offset of the TCP header behind the extension headers at `at`, of which the first is a `first`.
///
/// # Errors
///
/// [`NotSyn::Other`] where another protocol follows; [`NotSyn::Unparsed`] where TCP may follow, behind
/// something that is not passed over.
#[inline(always)]
pub(super) fn pass_over<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    first: u8,
) -> Result<usize, NotSyn> {
    let mut at = at as u64;
    let mut kind = u64::from(first);
    for round in 0..=MAX {
        // In the kernel, the verifier then takes every round for the one before.
        at = frame.barrier_var(at) & OFFSET_MASK;
        kind = frame.barrier_var(kind) & 0xff;
        if kind as u8 == tcp::PROTOCOL {
            return Ok(at as usize);
        }
        if !may_lead_to_tcp(kind as u8) {
            return Err(NotSyn::Other);
        }
        // Hop-by-hop options stand right behind the IPv6 header, or nowhere.
        if round == MAX || (kind as u8 == HOP_BY_HOP && round != 0) {
            break;
        }
        let [header] = frame.words(at as usize).ok_or(NotSyn::Unparsed)?;
        let len = length(kind as u8, header)?;
        at += len;
        kind = header & 0xff;
    }
    Err(NotSyn::Unparsed)
}

/// `true` for TCP, and for a header behind which TCP may still follow.
#[inline(always)]
const fn may_lead_to_tcp(kind: u8) -> bool {
    matches!(
        kind,
        tcp::PROTOCOL | HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY
    )
}

/// Bytes of a header of that kind which begins with `header`, as a little-endian word.
#[inline(always)]
fn length(kind: u8, header: u64) -> Result<u64, NotSyn> {
    let len = told_length(header);
    let (third, fourth) = (header >> 16 & 0xff, header >> 24 & 0xff);
    let passed = match kind {
        HOP_BY_HOP => true,
        // Type, and segments left. Types 2 to 4 are dropped by hosts that are not set up for them.
        ROUTING => fourth == 0 && !matches!(third, 2..=4),
        DESTINATION => len < HOME_ADDRESS_LEN,
        FRAGMENT if header & FRAGMENT_MASK == 0 => return Ok(UNIT),
        FRAGMENT if !may_lead_to_tcp(header as u8) => return Err(NotSyn::Other),
        _ => false,
    };
    if passed {
        Ok(len)
    } else {
        Err(NotSyn::Unparsed)
    }
}

/// Bytes of a header that begins with `header`, as it tells itself. Fragment headers do not.
#[inline(always)]
const fn told_length(header: u64) -> u64 {
    ((header >> 8 & 0xff) + 1) * UNIT
}
