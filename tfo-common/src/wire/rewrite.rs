//! A Fast Open option rewritten in place: the packet keeps its length.

use super::{
    checksum::Change,
    options::{
        COOKIE_MAX, EXPERIMENTAL, EXPERIMENTAL_HEADER_LEN, HEADER_LEN, NO_OPERATION,
        fast_open::OptionPlace,
    },
};

/// Most bytes of a Fast Open option that counts.
pub const MAX_LEN: usize = EXPERIMENTAL_HEADER_LEN + COOKIE_MAX;

/// Room for an option, in whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct OptionBytes(pub [u8; MAX_LEN.next_multiple_of(8)]);

/// The new content of the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// A cookie request: the cookie becomes NOPs.
    Request,
    /// None: all of the option becomes NOPs.
    Absent,
}

impl Rewrite {
    /// Rewrites `option`, the bytes at `place`. Returns the effect on the segment's checksum.
    #[inline(always)]
    pub fn apply(self, OptionBytes(option): &mut OptionBytes, place: OptionPlace) -> Change {
        let mut change = Change::default();
        let header = match self {
            Self::Absent => 0,
            Self::Request if option[0] == EXPERIMENTAL => EXPERIMENTAL_HEADER_LEN,
            Self::Request => HEADER_LEN,
        };
        // No option is shorter. Without this, the verifier of Linux 6.1 goes on with an option of no bytes.
        let len = HEADER_LEN.max(place.len as usize);
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
    use crate::wire::options::fast_open::{self, FastOpen};

    const LISTS: [&[u8]; 5] = [
        b"\x02\x04\x05\xb4\x22\x0abiscuits\x01\x01",
        b"\x01\x22\x0abiscuits\x01",
        b"\xfe\x0c\xf9\x89biscuits",
        b"\x01\xfe\x14\xf9\x89biscuits........\x01\x01\x01",
        b"\x22\x06bisc\x01\x01",
    ];

    #[test]
    fn a_rewritten_list_reads_as_it_should() {
        for list in LISTS {
            for (rewrite, says) in [
                (Rewrite::Request, FastOpen::Request),
                (Rewrite::Absent, FastOpen::Absent),
            ] {
                let (before, place) = fast_open::parse(list, 0, list.len(), true);
                let (at, len) = (usize::from(place.at), usize::from(place.len));
                let mut option = OptionBytes([0; 24]);
                option.0[..len].copy_from_slice(&list[at..at + len]);
                rewrite.apply(&mut option, place);
                let after = [&list[..at], &option.0[..len], &list[at + len..]].concat();
                let (after, place) = fast_open::parse(&after[..], 0, after.len(), true);
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
