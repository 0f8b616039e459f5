//! TCP options of the handshake besides Fast Open: what a client offers, and what the host agrees to.
//!
//! Source: RFC 9293 section 3.7.1 (MSS), RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 3168
//! section 6.1.1 (ECN), as Linux' `tcp_parse_options` reads them.

use super::{
    HEADER_LEN, MSS, RawOption, SACK_PERMITTED, START_MASK, TIMESTAMPS, TIMESTAMPS_SIZE, Visitor,
    WINDOW_SCALE, linux_list, walk,
};
use crate::wire::{Frame, View, tcp};

/// The MSS that Linux assumes of a client that names none: `TCP_MSS_DEFAULT`.
pub const DEFAULT_MSS: u16 = 536;

/// The greatest window scale: `TCP_MAX_WSCALE`.
const MAX_WINDOW_SCALE: u8 = 14;

const ECE_CWR: u8 = 0xc0;

/// MSS, window scale, SACK, ECN and timestamps of one handshake, packed into one word, so that the verifier has one
/// number to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions(u32);

impl TcpOptions {
    /// Bits of everything but the timestamps' flag, which is above them: the header itself tells of timestamps.
    pub const BITS: u32 = 22;
    const SCALE: u32 = 16;
    /// In place of a scale: no window scaling.
    const NO_SCALE: u8 = 15;
    const SACK: u32 = 1 << 20;
    const ECN: u32 = 1 << 21;
    const TIMESTAMPS: u32 = 1 << 22;

    /// A SYN without options.
    const NONE: Self = Self(DEFAULT_MSS as u32 | (Self::NO_SCALE as u32) << Self::SCALE);

    /// From the lower [`Self::BITS`] bits, with timestamps or without.
    #[inline(always)]
    pub const fn from_bits(bits: u32, timestamps: bool) -> Self {
        let above = if timestamps { Self::TIMESTAMPS } else { 0 };
        Self(bits & ((1 << Self::BITS) - 1) | above)
    }

    /// The lower [`Self::BITS`] bits.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0 & ((1 << Self::BITS) - 1)
    }

    /// All bits, the timestamps' flag included.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The greatest segment that the peer accepts, in bytes of data.
    #[inline(always)]
    pub const fn mss(self) -> u16 {
        self.0 as u16
    }

    /// These options with another MSS.
    #[inline(always)]
    #[must_use]
    pub const fn with_mss(self, mss: u16) -> Self {
        Self(self.0 & !0xffff | mss as u32)
    }

    /// The shift count of the peer's window; `None` without window scaling.
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

    /// These options without those that the host has switched off.
    #[inline(always)]
    #[must_use]
    pub const fn limited(self, host: HostOptions) -> Self {
        let mut bits = self.0;
        if !host.window_scaling {
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

    /// These options, each bit passed through `barrier` (see [`Frame::barrier_var`]).
    #[inline(always)]
    #[must_use]
    pub fn barrier_var(self, barrier: impl FnOnce(u64) -> u64) -> Self {
        Self(barrier(self.0.into()) as u32)
    }
}

/// The options that a host uses: `net.ipv4.tcp_window_scaling`, `tcp_sack`, `tcp_ecn` and `tcp_timestamps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four sysctls")]
pub struct HostOptions {
    /// `net.ipv4.tcp_window_scaling`.
    pub window_scaling: bool,
    /// `net.ipv4.tcp_sack`.
    pub sack: bool,
    /// `net.ipv4.tcp_ecn`: ECN where the client asks for it.
    pub ecn: bool,
    /// `net.ipv4.tcp_timestamps`.
    pub timestamps: bool,
}

impl HostOptions {
    /// None is on.
    pub const NONE: Self = Self {
        window_scaling: false,
        sack: false,
        ecn: false,
        timestamps: false,
    };
}

/// A timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub tsval: u32,
    /// The peer's clock, echoed.
    pub tsecr: u32,
}

/// Reads the options of the SYN whose TCP header of `header_len` bytes is at offset `at`, and its timestamps where it
/// has them, else zeroes.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    header_len: usize,
) -> (TcpOptions, Timestamps) {
    let mut offered = Offered::NONE;
    walk(
        frame,
        at + tcp::MIN_HEADER_LEN,
        header_len - tcp::MIN_HEADER_LEN,
        &mut offered,
    );
    let timestamps = timestamps_at(frame, offered.tsval_at());
    let mut options = TcpOptions(offered.options as u32);
    if offered.tsval_at != 0 {
        options.0 |= TcpOptions::TIMESTAMPS;
    }
    let asks_ecn = frame
        .view::<1>(at + tcp::FLAGS)
        .is_some_and(|flags| flags.byte(0) & ECE_CWR == ECE_CWR);
    if asks_ecn {
        options.0 |= TcpOptions::ECN;
    }
    (options, timestamps)
}

/// Reads the timestamps of the segment whose options of `len` bytes are at offset `start`.
#[inline(always)]
pub fn timestamps<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> Option<Timestamps> {
    // Two no-operations before it, as nearly every segment has it.
    const USUAL: u64 = u64::from_le_bytes([1, 1, TIMESTAMPS, TIMESTAMPS_SIZE as u8, 0, 0, 0, 0]);
    let usual = len >= 12
        && frame
            .words::<1>(start)
            .is_some_and(|[word]| word & 0xffff_ffff == USUAL);
    let at = if usual {
        start + 4
    } else {
        let mut offered = Offered::NONE;
        walk(frame, start, len, &mut offered);
        offered.tsval_at()?
    };
    Some(timestamps_at(frame, Some(at)))
}

#[inline(always)]
fn timestamps_at<F: Frame + ?Sized>(frame: &F, at: Option<usize>) -> Timestamps {
    let Some([word]) = at.and_then(|at| frame.words::<1>(at)) else {
        return Timestamps::default();
    };
    Timestamps {
        tsval: (word as u32).swap_bytes(),
        tsecr: ((word >> 32) as u32).swap_bytes(),
    }
}

/// The visitor's state.
struct Offered {
    /// [`TcpOptions`], without ECN and timestamps.
    options: u64,
    /// Offset of `TSval` in the frame; 0 where there is none.
    tsval_at: u64,
}

impl Offered {
    const NONE: Self = Self {
        options: TcpOptions::NONE.0 as u64,
        tsval_at: 0,
    };

    #[inline(always)]
    const fn tsval_at(&self) -> Option<usize> {
        match self.tsval_at {
            0 => None,
            at => Some(at as usize),
        }
    }
}

impl Visitor for Offered {
    #[inline(always)]
    fn linux_list(&mut self, list: &impl View, start: usize) -> bool {
        let mss = list.half(linux_list::MSS);
        if mss == 0 {
            return false;
        }
        let scale = list.byte(linux_list::WINDOW_SCALE).min(MAX_WINDOW_SCALE);
        let options = u32::from(mss) | u32::from(scale) << TcpOptions::SCALE | TcpOptions::SACK;
        self.options = options.into();
        self.tsval_at = (start + linux_list::TSVAL) as u64;
        true
    }

    #[inline(always)]
    fn linux_fast_open(&mut self, _: usize) {}

    #[inline(always)]
    fn option<F: Frame + ?Sized>(&mut self, frame: &F, option: RawOption) {
        let mut options = TcpOptions(self.options as u32);
        match (option.kind, option.size) {
            (MSS, 4) => {
                if let Some(value) = frame.view::<4>(option.frame_at)
                    && value.half(HEADER_LEN) != 0
                {
                    options = options.with_mss(value.half(HEADER_LEN));
                }
            }
            (WINDOW_SCALE, 3) => {
                if let Some(value) = frame.view::<3>(option.frame_at) {
                    let scale = value.byte(HEADER_LEN).min(MAX_WINDOW_SCALE);
                    options.0 = options.0 & !(0xf << TcpOptions::SCALE)
                        | u32::from(scale) << TcpOptions::SCALE;
                }
            }
            (SACK_PERMITTED, 2) => options.0 |= TcpOptions::SACK,
            (TIMESTAMPS, TIMESTAMPS_SIZE) => {
                self.tsval_at = (option.frame_at + HEADER_LEN) as u64;
            }
            _ => {}
        }
        self.options = options.0.into();
    }

    #[inline(always)]
    fn broken(&mut self, _: usize) {}

    #[inline(always)]
    fn barrier_var<F: Frame + ?Sized>(&mut self, frame: &F) {
        self.options = frame.barrier_var(self.options);
        self.tsval_at = frame.barrier_var(self.tsval_at) & START_MASK;
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

    fn read(flags: u8, list: &[u8]) -> (TcpOptions, Timestamps) {
        let bytes = header(flags, list);
        // Behind the header there is more of a frame.
        let padded = [bytes.as_slice(), &[0; 16]].concat();
        parse(padded.as_slice(), 0, bytes.len())
    }

    #[test]
    fn fast_open_behind_what_linux_offers_changes_nothing() {
        let usual = [
            2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 9, 1, 3, 3, 10,
        ];
        let request = [34, 2, 1, 1];
        let cookie = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        for tail in [&request[..], &cookie] {
            let (options, timestamps) = read(2, &[&usual[..], tail].concat());
            let (alone, same) = read(2, &usual);
            assert_eq!(options, alone);
            assert_eq!(timestamps.tsval, same.tsval);
        }
        // Not the padding that Linux adds: the walk reads on.
        let (options, _) = read(2, &[&usual[..], &[34, 2, 3, 3, 7, 0, 0, 0]].concat());
        assert_eq!(options.window_scale(), Some(7));
    }

    #[test]
    fn reads_what_linux_offers() {
        let (options, timestamps) = read(
            0xc2,
            &[
                2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 9, 1, 3, 3, 10,
            ],
        );
        assert_eq!(options.mss(), 1460);
        assert_eq!(options.window_scale(), Some(10));
        assert!(options.sack() && options.ecn() && options.timestamps());
        assert_eq!((timestamps.tsval, timestamps.tsecr), (0x0102_0304, 9));
    }

    /// The list that is read at once, with another option behind it that counts.
    #[test]
    fn options_behind_the_usual_list_count() {
        let usual = [
            2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 9, 1, 3, 3, 10,
        ];
        let (options, timestamps) = read(2, &[&usual[..], &[2, 4, 2, 8]].concat());
        assert_eq!((options.mss(), options.window_scale()), (520, Some(10)));
        assert!(options.sack() && options.timestamps() && !options.ecn());
        assert_eq!(timestamps.tsval, 0x0102_0304);
    }

    #[test]
    fn a_bare_header_offers_little() {
        let (options, timestamps) = read(2, &[]);
        assert_eq!(options.mss(), DEFAULT_MSS);
        assert_eq!(options.window_scale(), None);
        assert!(!options.sack() && !options.ecn() && !options.timestamps());
        assert_eq!(timestamps, Timestamps::default());
    }

    #[test]
    fn a_broken_list_ends_where_it_breaks() {
        let (options, _) = read(2, &[2, 4, 2, 0, 3, 9, 7, 1, 4, 2]);
        assert_eq!((options.mss(), options.window_scale()), (512, None));
        assert!(!options.sack());
        // A scale beyond the greatest is that.
        assert_eq!(read(2, &[3, 3, 99]).0.window_scale(), Some(14));
    }

    #[test]
    fn timestamps_are_found_wherever_they_are() {
        let list = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(
            timestamps(list.as_slice(), 0, 12),
            Some(Timestamps { tsval: 5, tsecr: 6 })
        );
        let list = [4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(
            timestamps(list.as_slice(), 0, 12),
            Some(Timestamps { tsval: 5, tsecr: 6 })
        );
        assert_eq!(timestamps([1_u8; 12].as_slice(), 0, 12), None);
    }

    #[test]
    fn a_host_limits_the_options() {
        let (options, _) = read(0xc2, &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 3, 3, 7, 1]);
        let none = HostOptions {
            window_scaling: false,
            sack: false,
            ecn: false,
            timestamps: false,
        };
        let options = options.limited(none);
        assert_eq!(options.window_scale(), None);
        assert!(!options.sack() && !options.ecn() && !options.timestamps());
    }
}
