//! TCP options of the handshake besides Fast Open: what a client offers for its connection.
//!
//! Source: RFC 9293 section 3.7.1 (segment size), RFC 7323 (window scale, timestamps), RFC 2018 (selective
//! acknowledgements), RFC 3168 section 6.1.1 (ECN), as Linux' `tcp_parse_options` reads them.

mod walk;

use self::walk::walk;
use super::{
    Frame, View as _,
    options::{TIMESTAMP, TIMESTAMP_SIZE},
    tcp,
};

/// What Linux takes for the segment size of a client that names none: `TCP_MSS_DEFAULT`.
pub const DEFAULT_SEGMENT_SIZE: u16 = 536;

const ECE_CWR: u8 = 0xc0;

/// What a client offers, or what was agreed upon, packed into one word, so that the kernel's verifier has one
/// number to follow: the greatest segment that it takes, the scale of its window, and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer(u32);

impl Offer {
    /// Bits of an offer. Timestamps are told by a TCP header's having them, and stand above.
    pub const BITS: u32 = 22;
    const SCALE: u32 = 16;
    /// In the place of a scale: the client scales no window.
    const NO_SCALE: u8 = 15;
    const SACK: u32 = 1 << 20;
    const ECN: u32 = 1 << 21;
    const TIMESTAMPS: u32 = 1 << 22;

    /// A client that names nothing.
    const NONE: Self = Self(DEFAULT_SEGMENT_SIZE as u32 | (Self::NO_SCALE as u32) << Self::SCALE);

    /// The offer of these bits, of a connection with timestamps or without.
    #[inline(always)]
    pub const fn from_bits(bits: u32, timestamps: bool) -> Self {
        let above = if timestamps { Self::TIMESTAMPS } else { 0 };
        Self(bits & ((1 << Self::BITS) - 1) | above)
    }

    /// Its [`Self::BITS`] bits.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0 & ((1 << Self::BITS) - 1)
    }

    /// All of it, timestamps included.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The greatest segment that the client takes, in bytes of data.
    #[inline(always)]
    pub const fn segment_size(self) -> u16 {
        self.0 as u16
    }

    /// The same with another segment size.
    #[inline(always)]
    #[must_use]
    pub const fn with_segment_size(self, size: u16) -> Self {
        Self(self.0 & !0xffff | size as u32)
    }

    /// The shift count of the client's window; `None` where it scales none.
    #[inline(always)]
    pub const fn window_scale(self) -> Option<u8> {
        match (self.0 >> Self::SCALE) as u8 & 0xf {
            Self::NO_SCALE => None,
            scale => Some(scale),
        }
    }

    /// Selective acknowledgements.
    #[inline(always)]
    pub const fn sack(self) -> bool {
        self.0 & Self::SACK != 0
    }

    /// Explicit congestion notification.
    #[inline(always)]
    pub const fn ecn(self) -> bool {
        self.0 & Self::ECN != 0
    }

    /// Timestamps.
    #[inline(always)]
    pub const fn timestamps(self) -> bool {
        self.0 & Self::TIMESTAMPS != 0
    }

    /// What is left of it where the host uses no more than that.
    #[inline(always)]
    #[must_use]
    pub const fn limited(self, host: Abilities) -> Self {
        let mut bits = self.0;
        if !host.window_scale {
            bits |= (Self::NO_SCALE as u32) << Self::SCALE;
        }
        if !host.sack {
            bits &= !Self::SACK;
        }
        if !host.ecn {
            bits &= !Self::ECN;
        }
        if !host.timestamps {
            bits &= !Self::TIMESTAMPS;
        }
        Self(bits)
    }

    /// The same, where every bit has been through `opaque` (see [`Frame::opaque`]).
    #[inline(always)]
    #[must_use]
    pub fn through(self, opaque: impl FnOnce(u64) -> u64) -> Self {
        Self(opaque(self.0.into()) as u32)
    }
}

/// Which options a host uses: its sysctls `net.ipv4.tcp_window_scaling`, `tcp_sack`, `tcp_ecn` and
/// `tcp_timestamps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four switches")]
pub struct Abilities {
    /// Windows are scaled.
    pub window_scale: bool,
    /// Selective acknowledgements.
    pub sack: bool,
    /// ECN, where the client asks for it.
    pub ecn: bool,
    /// Timestamps.
    pub timestamps: bool,
}

/// A timestamp option's two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The sender's own, `TSval`.
    pub value: u32,
    /// What it echoes, `TSecr`.
    pub echo: u32,
}

/// Reads what the SYN offers whose TCP header of `header_len` bytes is at offset `at`, and its clocks where it
/// has any.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F, at: usize, header_len: usize) -> (Offer, Clocks) {
    let seen = walk(
        frame,
        at + tcp::MIN_HEADER_LEN,
        header_len - tcp::MIN_HEADER_LEN,
    );
    let clocks = clocks_at(frame, seen.clock());
    let mut offer = seen.offer;
    if seen.clock_at != 0 {
        offer.0 |= Offer::TIMESTAMPS;
    }
    let asks_ecn = frame
        .view::<1>(at + tcp::FLAGS)
        .is_some_and(|flags| flags.byte(0) & ECE_CWR == ECE_CWR);
    if asks_ecn {
        offer.0 |= Offer::ECN;
    }
    (offer, clocks)
}

/// Reads the clocks of the segment whose options of `len` bytes are at offset `start`; `None` where it has none.
#[inline(always)]
pub fn clocks<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> Option<Clocks> {
    // Two no-operations before it, as nearly every segment has it.
    const USUAL: u64 = u64::from_le_bytes([1, 1, TIMESTAMP, TIMESTAMP_SIZE as u8, 0, 0, 0, 0]);
    let usual = len >= 12
        && frame
            .words::<1>(start)
            .is_some_and(|[word]| word & 0xffff_ffff == USUAL);
    let at = if usual {
        start + 4
    } else {
        walk(frame, start, len).clock()?
    };
    Some(clocks_at(frame, Some(at)))
}

#[inline(always)]
fn clocks_at<F: Frame + ?Sized>(frame: &F, at: Option<usize>) -> Clocks {
    let Some(clocks) = at.and_then(|at| frame.words::<1>(at)) else {
        return Clocks::default();
    };
    let [word] = clocks;
    Clocks {
        value: (word as u32).swap_bytes(),
        echo: ((word >> 32) as u32).swap_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn header(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = std::vec![0; tcp::MIN_HEADER_LEN];
        bytes[tcp::FLAGS] = flags;
        bytes.extend(options);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(flags: u8, options: &[u8]) -> (Offer, Clocks) {
        let bytes = header(flags, options);
        // Behind the header there is more of a frame.
        let padded = [bytes.as_slice(), &[0; 16]].concat();
        parse(padded.as_slice(), 0, bytes.len())
    }

    #[test]
    fn reads_what_linux_offers() {
        let (offer, clocks) = read(
            0xc2,
            &[
                2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 9, 1, 3, 3, 10,
            ],
        );
        assert_eq!(offer.segment_size(), 1460);
        assert_eq!(offer.window_scale(), Some(10));
        assert!(offer.sack() && offer.ecn() && offer.timestamps());
        assert_eq!((clocks.value, clocks.echo), (0x0102_0304, 9));
    }

    /// The list that is read at once, with another option behind it that counts.
    #[test]
    fn the_usual_list_may_go_on() {
        let usual = [
            2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 9, 1, 3, 3, 10,
        ];
        let (offer, clocks) = read(2, &[&usual[..], &[2, 4, 2, 8]].concat());
        assert_eq!(
            (offer.segment_size(), offer.window_scale()),
            (520, Some(10))
        );
        assert!(offer.sack() && offer.timestamps() && !offer.ecn());
        assert_eq!(clocks.value, 0x0102_0304);
    }

    #[test]
    fn a_bare_header_offers_little() {
        let (offer, clocks) = read(2, &[]);
        assert_eq!(offer.segment_size(), DEFAULT_SEGMENT_SIZE);
        assert_eq!(offer.window_scale(), None);
        assert!(!offer.sack() && !offer.ecn() && !offer.timestamps());
        assert_eq!(clocks, Clocks::default());
    }

    #[test]
    fn a_broken_list_ends_where_it_breaks() {
        let (offer, _) = read(2, &[2, 4, 2, 0, 3, 9, 7, 1, 4, 2]);
        assert_eq!((offer.segment_size(), offer.window_scale()), (512, None));
        assert!(!offer.sack());
        // A scale beyond the greatest is that.
        assert_eq!(read(2, &[3, 3, 99]).0.window_scale(), Some(14));
    }

    #[test]
    fn clocks_are_found_wherever_they_are() {
        let list = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(
            clocks(list.as_slice(), 0, 12),
            Some(Clocks { value: 5, echo: 6 })
        );
        let list = [4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(
            clocks(list.as_slice(), 0, 12),
            Some(Clocks { value: 5, echo: 6 })
        );
        assert_eq!(clocks([1_u8; 12].as_slice(), 0, 12), None);
    }

    #[test]
    fn a_host_limits_an_offer() {
        let (offer, _) = read(0xc2, &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 3, 3, 7, 1]);
        let none = Abilities {
            window_scale: false,
            sack: false,
            ecn: false,
            timestamps: false,
        };
        let offer = offer.limited(none);
        assert_eq!(offer.window_scale(), None);
        assert!(!offer.sack() && !offer.ecn() && !offer.timestamps());
    }
}
