//! IPv4's options (RFC 791, section 3.1): whether a host takes a packet with them. Linux: `__ip_options_compile`,
//! `ip_rcv_options`.
//!
//! Not judged: CIPSO, which the kernel holds against labels of its own.

use super::{super::NotSyn, Frame, View as _};

const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Bytes of an address, and of a timestamp.
const ENTRY: u8 = 4;
/// Bytes of an option before its entries: kind, size, pointer.
const ROUTE_HEADER: u8 = 3;
/// And flags.
const TIMESTAMP_HEADER: u8 = 4;

/// Most bytes of options that a header has.
const MAX_LEN: usize = 40;
const OFFSET_MASK: u64 = 0x3f;

/// Options that a packet may have once, as bits.
const SEEN_ROUTE: u64 = 1;
const SEEN_TIMESTAMP: u64 = 1 << 1;

/// Reads the options between the offsets `start` and `end` of `frame`, behind which a TCP header follows.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where Linux drops the packet: an option is malformed, or the packet has a source route.
#[inline(always)]
pub(in super::super) fn check<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    end: usize,
) -> Result<(), NotSyn> {
    let (mut at, mut seen) = (0, 0);
    let len = (frame.barrier_var((end - start) as u64) & OFFSET_MASK) as usize;
    // Each option takes at least one byte, so MAX_LEN rounds read any list to its end.
    for _ in 0..MAX_LEN {
        // In the kernel, the verifier then takes every round for the one before.
        at = frame.barrier_var(at) & OFFSET_MASK;
        seen = frame.barrier_var(seen);
        if at as usize >= len {
            break;
        }
        let option = frame
            .view::<{ TIMESTAMP_HEADER as usize }>(start + at as usize)
            .ok_or(NotSyn::Unparsed)?;
        match option.byte(0) {
            END_OF_LIST => break,
            NO_OPERATION => at += 1,
            kind => {
                let size = option.byte(1);
                if size < 2 || at as usize + usize::from(size) > len {
                    return Err(NotSyn::Unparsed);
                }
                let bit = bit(kind);
                if seen & bit != 0 || !is_taken(kind, size, option.byte(2), option.byte(3)) {
                    return Err(NotSyn::Unparsed);
                }
                seen |= bit;
                at += u64::from(size);
            }
        }
    }
    Ok(())
}

#[inline(always)]
const fn bit(kind: u8) -> u64 {
    match kind {
        RECORD_ROUTE => SEEN_ROUTE,
        TIMESTAMP => SEEN_TIMESTAMP,
        _ => 0,
    }
}

/// `true` if the kernel takes an option of this kind, that its list has room for, with these next bytes.
#[inline(always)]
const fn is_taken(kind: u8, size: u8, pointer: u8, flags: u8) -> bool {
    /// The flags' lower half: an address before each timestamp, as hosts add them, or given by the sender.
    const WITH_ADDRESS: u8 = 1;
    const GIVEN: u8 = 3;
    /// The upper half: hosts that found no room.
    const MAX_OVERFLOW: u8 = 15;
    match kind {
        // Without `accept_source_route`.
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => false,
        RECORD_ROUTE => {
            size >= ROUTE_HEADER && pointer > ROUTE_HEADER && has_room(size, pointer, ENTRY)
        }
        TIMESTAMP => {
            let entry = match flags & 0xf {
                WITH_ADDRESS | GIVEN => 2 * ENTRY,
                _ => ENTRY,
            };
            size >= TIMESTAMP_HEADER
                && pointer > TIMESTAMP_HEADER
                && if pointer <= size {
                    has_room(size, pointer, entry)
                } else {
                    flags & 0xf == GIVEN || flags >> 4 != MAX_OVERFLOW
                }
        }
        ROUTER_ALERT => size >= 4,
        _ => true,
    }
}

/// An option of `size` bytes is full, or has room for a whole entry at `pointer`, which counts from 1.
#[inline(always)]
const fn has_room(size: u8, pointer: u8, entry: u8) -> bool {
    pointer > size || pointer as u16 + entry as u16 - 1 <= size as u16
}
