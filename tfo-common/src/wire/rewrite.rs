//! A Fast Open option put out of force in place: the packet stays as long as it is.

use super::{
    checksum::Change,
    options::{COOKIE_MAX, EXPERIMENTAL, EXPERIMENTAL_HEADER, HEADER, NO_OPERATION, Place},
};

/// Most bytes that a Fast Open option which counts has.
pub const MAX_LEN: usize = EXPERIMENTAL_HEADER + COOKIE_MAX;

/// Room for an option, of whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct OptionBytes(pub [u8; MAX_LEN.next_multiple_of(8)]);

/// What an option becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// It asks for a cookie: its cookie becomes NOPs.
    Request,
    /// All of it becomes NOPs.
    Absent,
}

impl Rewrite {
    /// Rewrites `option`, the bytes at `place`, and gives what that does to the segment's checksum.
    #[inline(always)]
    pub fn apply(self, OptionBytes(option): &mut OptionBytes, place: Place) -> Change {
        let mut change = Change::default();
        let header = match self {
            Self::Absent => 0,
            Self::Request if option[0] == EXPERIMENTAL => EXPERIMENTAL_HEADER,
            Self::Request => HEADER,
        };
        // No option has less. Not said, the verifier of Linux 6.1 would go on with one of no bytes.
        let len = HEADER.max(place.len as usize);
        for (at, byte) in option.iter_mut().enumerate() {
            if at >= len {
                break;
            }
            let new = if at >= header {
                NO_OPERATION
            } else if at == 1 {
                header as u8
            } else {
                *byte
            };
            // The TCP header has an even length without its options.
            change.byte(*byte, new, (at + place.at as usize) % 2 == 1);
            *byte = new;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::options::{self, FastOpen};

    const LISTS: [&[u8]; 5] = [
        b"\x02\x04\x05\xb4\x22\x0abiscuits\x01\x01",
        b"\x01\x22\x0abiscuits\x01",
        b"\xfe\x0c\xf9\x89biscuits",
        b"\x01\xfe\x14\xf9\x89biscuits........\x01\x01\x01",
        b"\x22\x06bisc\x01\x01",
    ];

    #[test]
    fn what_is_rewritten_says_what_it_is_to_say() {
        for list in LISTS {
            for (rewrite, says) in [
                (Rewrite::Request, FastOpen::Request),
                (Rewrite::Absent, FastOpen::Absent),
            ] {
                let (before, place) = options::parse(list, 0, list.len(), true);
                let (at, len) = (usize::from(place.at), usize::from(place.len));
                let mut option = OptionBytes([0; 24]);
                option.0[..len].copy_from_slice(&list[at..at + len]);
                rewrite.apply(&mut option, place);
                let after = [&list[..at], &option.0[..len], &list[at + len..]].concat();
                let (after, place) = options::parse(&after[..], 0, after.len(), true);
                assert_eq!(after.fast_open, says, "{list:?}");
                assert!(!after.malformed && place.sole);
                assert_eq!(
                    after.experimental,
                    before.experimental && rewrite == Rewrite::Request
                );
            }
        }
    }
}
