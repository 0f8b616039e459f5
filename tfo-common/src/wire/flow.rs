//! A tag for the addresses and ports of a segment, by which tables without a bound to enforce tell connections apart.

use super::addresses::Addresses;

/// Tells flows apart by addresses and ports, those of [`super::syn::Syn`]. Never 0. Not keyed: whoever finds two alike must
/// gain nothing.
#[inline(always)]
pub const fn flow_tag(addresses: &Addresses, ports: u32) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = match addresses {
        Addresses::V4(both) => [*both, 0, 0, 0],
        Addresses::V6(words) => *words,
    };
    let mut tag = ports as u64;
    let mut index = 0;
    while index < words.len() {
        tag = (tag ^ words[index]).wrapping_mul(MIX).rotate_left(29);
        index += 1;
    }
    tag | 1
}
