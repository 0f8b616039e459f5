//! Many frames that nobody thought of: the program in the kernel counts what the same code counts on
//! the host, and lets every one go on.
//!
//! The frames come from one seed, which a failure names; `TFO_SEED` gives it again.

use std::env;

use anyhow::{Context as _, Result};
use tfo_common::{
    classify::Outcome,
    cookie::KeySet,
    counters::{Counter, Counters},
    socket::Socket,
    wire::{self, NotSyn},
};
use tfo_tests::{
    packet::{experimental, fast_open, linux_options},
    program::{KeyBytes, Program, key_set},
};

use crate::flow::{BACKUP, FLOWS, Flow, PRIMARY};

const FRAMES: usize = 100_000;
/// After so many frames the counters are compared.
const CHUNK: usize = 1000;
const KEYS: [KeyBytes; 2] = [PRIMARY, BACKUP];

/// What no packet decides without the socket that it meets.
const OF_SOCKETS: [Counter; 9] = [
    Counter::ListenOverflow,
    Counter::ReasonOff,
    Counter::ReasonListenerWithout,
    Counter::ReasonQueueFull,
    Counter::ReasonNoListener,
    Counter::ReasonSynCookies,
    Counter::ReasonSynQueueFull,
    Counter::ReasonAcceptQueueFull,
    Counter::ReasonRetransmission,
];

/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
const MIN_LEN: usize = 14;

fn seed() -> Result<u64> {
    match env::var("TFO_SEED") {
        Ok(seed) => seed.parse().context("TFO_SEED is not a number"),
        Err(_) => Ok(fastrand::u64(..)),
    }
}

/// What the code of the program counts for a frame when it runs on the host.
fn on_the_host(frame: &[u8], keys: &KeySet) -> Counters {
    let mut counters = Counters::default();
    match wire::parse(frame) {
        Ok(syn) => Outcome::of(&syn, &Socket::Unknown, || Some(keys)).count(&syn, &mut counters),
        Err(NotSyn::Unparsed) => counters.add(Counter::Unparsed, 1),
        Err(NotSyn::Other) => {}
    }
    counters
}

fn check(make: impl Fn(&mut fastrand::Rng) -> Vec<u8>) -> Result<Counters> {
    let seed = seed()?;
    println!("TFO_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let program = Program::with_keys(&KEYS)?;
    let keys = key_set(&KEYS)?;
    let mut expected = Counters::default();
    for _ in 0..FRAMES / CHUNK {
        let frames: Vec<_> = (0..CHUNK).map(|_| make(&mut random)).collect();
        for frame in &frames {
            expected += on_the_host(frame, &keys);
            program
                .pass(frame)
                .with_context(|| format!("TFO_SEED={seed}"))?;
        }
        let counters = program.counters()?;
        if counters.total != expected {
            find_disagreement(&frames, &keys, seed)?;
        }
        let ports: Counters = counters.ports.into_values().sum();
        assert_eq!(
            [ports, counters.other].into_iter().sum::<Counters>(),
            expected
        );
    }
    Ok(expected)
}

/// Runs the frames again, one at a time, and names the one that differs.
fn find_disagreement(frames: &[Vec<u8>], keys: &KeySet, seed: u64) -> Result<()> {
    let program = Program::with_keys(&KEYS)?;
    let mut expected = Counters::default();
    for frame in frames {
        expected += on_the_host(frame, keys);
        program.pass(frame)?;
        let counted = program.counters()?.total;
        assert_eq!(counted, expected, "TFO_SEED={seed}, {frame:02x?}");
    }
    panic!("TFO_SEED={seed}: the counters differ, but for no single frame");
}

/// Any bytes, of which a few are often as in a SYN, so that the rest of them is looked at.
fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut frame = vec![0; random.usize(MIN_LEN..200)];
    random.fill(&mut frame);
    let len = (frame.len() - MIN_LEN) as u8;
    let words = random.u8(4..16);
    let (is, tcp): (&[(usize, u8)], usize) = match random.u8(..8) {
        0 => return frame,
        1 => (&[(12, 0x81), (13, 0x00)], 14),
        2..5 => (
            &[
                (12, 0x86),
                (13, 0xdd),
                (14, 0x60),
                (18, 0),
                (19, len.saturating_sub(40)),
                (20, 6),
            ],
            54,
        ),
        _ => (
            &[
                (12, 0x08),
                (13, 0x00),
                (14, 0x40 | words),
                (16, 0),
                (17, len),
                (20, 0),
                (21, 0),
                (23, 6),
            ],
            14 + 4 * usize::from(words),
        ),
    };
    let is_syn = [(tcp + 13, 0xc2), (tcp + 12, random.u8(0x40..))];
    for (at, byte) in is.iter().chain(&is_syn) {
        // Each of them is left out now and then.
        if let Some(place) = frame.get_mut(*at).filter(|_| random.u8(..30) != 0) {
            *place = *byte;
        }
    }
    frame
}

/// A list of options like a client's, of which some are Fast Open's.
fn options(random: &mut fastrand::Rng, flow: Flow) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..random.usize(0..5) {
        let mut bytes = vec![0; random.usize(0..20)];
        random.fill(&mut bytes);
        let option = match random.u8(0..9) {
            0 => fast_open(b""),
            1 => fast_open(&flow.cookie(&PRIMARY)),
            2 => fast_open(&flow.cookie(&BACKUP)),
            3 => fast_open(&bytes),
            4 => experimental(b""),
            5 => experimental(&flow.cookie(&BACKUP)),
            6 => experimental(&bytes),
            7 => linux_options(b""),
            _ => bytes.into(),
        };
        options.extend_from_slice(&option);
    }
    options.truncate(40);
    options
}

/// A SYN, often spoiled: bytes changed, mostly in its headers, or the end cut off.
fn spoiled_syn(random: &mut fastrand::Rng) -> Vec<u8> {
    let flow = random.choice(FLOWS).expect("two to choose from");
    let options = options(random, flow);
    let mut data = vec![0; random.usize(0..50)];
    random.fill(&mut data);
    let mut frame = flow
        .syn()
        .options(&options)
        .data(&data)
        .padded_frame()
        .to_vec();
    for _ in 0..random.usize(0..4) {
        let at = if random.bool() {
            random.usize(..frame.len())
        } else {
            random.usize(12..frame.len().min(90))
        };
        frame[at] = if random.bool() {
            frame[at] ^ 1 << random.u8(..8)
        } else {
            random.u8(..)
        };
    }
    if random.u8(..) < 20 {
        frame.truncate(random.usize(MIN_LEN..=frame.len()));
    }
    frame
}

#[test]
fn on_noise() -> Result<()> {
    let counted = check(noise)?;
    assert!(counted.get(Counter::Syns) > 1000, "{counted:?}");
    assert!(counted.get(Counter::Unparsed) > 10_000, "{counted:?}");
    Ok(())
}

#[test]
fn on_spoiled_syns() -> Result<()> {
    let counted = check(spoiled_syn)?;
    for counter in Counter::ALL {
        let count = counted.get(counter);
        if OF_SOCKETS.contains(&counter) {
            assert_eq!(count, 0, "{}: no socket was looked up", counter.name());
        } else {
            assert!(count > 500, "{}: {counted:?}", counter.name());
        }
    }
    Ok(())
}
