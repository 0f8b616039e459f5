//! The walk over a list of options.

use super::Offer;
use crate::wire::{
    Frame, View as _,
    options::{self, TIMESTAMP, TIMESTAMP_SIZE},
};

const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;

/// Greatest window scale: `TCP_MAX_WSCALE`.
const MAX_WINDOW_SCALE: u8 = 14;

/// What a walk over the options has seen.
pub(super) struct Seen {
    pub(super) offer: Offer,
    /// Offset of the timestamp's first clock in the frame; 0 where there is none.
    pub(super) clock_at: u64,
}

impl Seen {
    #[inline(always)]
    pub(super) const fn clock(&self) -> Option<usize> {
        match self.clock_at {
            0 => None,
            at => Some(at as usize),
        }
    }
}

/// Any offset of options in a frame has no other bits, nor has any offset within them.
const START_MASK: u64 = 0x7fff;
const OFFSET_MASK: u64 = 0x3f;

#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> Seen {
    let (mut at, mut offer, mut clock_at) = beginning(frame, start, len);
    let start = (frame.opaque(start as u64) & START_MASK) as usize;
    let len = (frame.opaque(len as u64) & OFFSET_MASK) as usize;
    // As in `options::parse`.
    for _ in 0..options::MAX_LEN {
        at = frame.opaque(at) & OFFSET_MASK;
        offer = frame.opaque(offer);
        clock_at = frame.opaque(clock_at) & START_MASK;
        if at as usize >= len {
            break;
        }
        match step(frame, start + at as usize, len - at as usize, &mut offer) {
            Step::End => break,
            Step::On(size) => at += size,
            Step::Clock => {
                clock_at = (start + at as usize + options::HEADER) as u64;
                at += TIMESTAMP_SIZE as u64;
            }
        }
    }
    Seen {
        offer: Offer(offer as u32),
        clock_at,
    }
}

/// Where the walk begins, and what was offered by then: behind what Linux's lists begin with, or at the list's
/// first byte. As `options::parse` does it.
#[inline(always)]
fn beginning<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> (u64, u64, u64) {
    const LEN: usize = options::USUAL_LEN;
    if len >= LEN
        && let Some(list) = frame.view::<LEN>(start)
        && options::is_usual(&list)
        && list.half(2) != 0
    {
        let scale = list.byte(LEN - 1).min(MAX_WINDOW_SCALE);
        let offer = u32::from(list.half(2)) | u32::from(scale) << Offer::SCALE | Offer::SACK;
        let clock_at = start + options::USUAL_CLOCK_AT;
        return (LEN as u64, offer.into(), clock_at as u64);
    }
    (0, Offer::NONE.0.into(), 0)
}

/// What comes after an option.
enum Step {
    End,
    /// The next option, so many bytes further on.
    On(u64),
    /// It was a timestamp.
    Clock,
}

/// Reads the option at offset `at` of the frame, with `left` bytes of the list from its first.
#[inline(always)]
fn step<F: Frame + ?Sized>(frame: &F, at: usize, left: usize, offer: &mut u64) -> Step {
    let Some(option) = frame.view::<{ options::HEADER }>(at) else {
        return Step::End;
    };
    let (kind, size) = (option.byte(0), usize::from(option.byte(1)));
    if kind == options::NO_OPERATION {
        return Step::On(1);
    }
    if kind == options::END_OF_LIST || size < options::HEADER || size > left {
        return Step::End;
    }
    let mut word = Offer(*offer as u32);
    match (kind, size) {
        (SEGMENT_SIZE, 4) => {
            if let Some(option) = frame.view::<4>(at)
                && option.half(2) != 0
            {
                word = word.with_segment_size(option.half(2));
            }
        }
        (WINDOW_SCALE, 3) => {
            if let Some(option) = frame.view::<3>(at) {
                let scale = option.byte(2).min(MAX_WINDOW_SCALE);
                word.0 = word.0 & !(0xf << Offer::SCALE) | u32::from(scale) << Offer::SCALE;
            }
        }
        (SACK_PERMITTED, 2) => word.0 |= Offer::SACK,
        (TIMESTAMP, TIMESTAMP_SIZE) => return Step::Clock,
        _ => {}
    }
    *offer = word.0.into();
    Step::On(size as u64)
}
