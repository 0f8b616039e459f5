//! Random frames, run through the XDP program and through the same code on the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use tfo_common::{
    classify::{Classification, socket::Socket},
    context::SynContext,
    counters::{Counter, Counters},
    fastopen::KeySet,
    switches::Switches,
    wire::{NotSyn, syn},
};

use crate::{
    packet::{Segment, cookie, experimental, fast_open, linux_options},
    program::{KeyBytes, Program, key_set},
};

const PRIMARY: KeyBytes = *b"a primary key...";
const BACKUP: KeyBytes = *b"a backup key....";
const KEYS: [KeyBytes; 2] = [PRIMARY, BACKUP];
/// Frames between two comparisons of the counters.
const CHUNK: usize = 1000;
/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header.
const MIN_LEN: usize = 14;

/// A client and a server.
type Flow = (SocketAddr, SocketAddr);

const FLOWS: [Flow; 2] = [
    (
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 50_000),
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 443),
    ),
    (
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6)),
            50_000,
        ),
        SocketAddr::new(
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 8, 9, 10, 11, 12)),
            443,
        ),
    ),
];

/// Kind of random frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Random bytes, in which most fields that identify a SYN are set.
    Noise,
    /// SYNs with random corruption.
    SpoiledSyns,
}

impl Frames {
    fn make(self, random: &mut fastrand::Rng) -> Vec<u8> {
        match self {
            Self::Noise => noise(random),
            Self::SpoiledSyns => spoiled_syn(random),
        }
    }
}

/// Runs the program on at least `count` random frames. Each must pass unchanged, and the counters must equal those of
/// the same code on the host, which are returned.
///
/// # Errors
///
/// The verdict, the frame or a counter differs, or the program cannot be run.
pub fn run_frames(frames: Frames, seed: u64, count: usize) -> Result<Counters> {
    let mut random = fastrand::Rng::with_seed(seed);
    let program = Program::with_keys(&KEYS)?;
    let keys = key_set(&KEYS)?;
    let mut expected = Counters::default();
    for _ in 0..count.div_ceil(CHUNK) {
        let frames: Vec<_> = (0..CHUNK).map(|_| frames.make(&mut random)).collect();
        for frame in &frames {
            expected += on_the_host(frame, &keys);
            program
                .pass(frame)
                .with_context(|| format!("seed {seed}"))?;
        }
        let counters = program.counters()?;
        if counters.total != expected {
            return find_disagreement(&frames, &keys, seed);
        }
        let ports: Counters = counters.ports.into_values().sum();
        let sum: Counters = [ports, counters.other].into_iter().sum();
        ensure!(
            sum == expected,
            "seed {seed}: the counters by port do not add up to the total: {sum:?}"
        );
    }
    Ok(expected)
}

/// Repeats the frames one at a time. The error names the first frame that differs.
fn find_disagreement(frames: &[Vec<u8>], keys: &KeySet, seed: u64) -> Result<Counters> {
    let program = Program::with_keys(&KEYS)?;
    let mut expected = Counters::default();
    for frame in frames {
        expected += on_the_host(frame, keys);
        program.pass(frame)?;
        let counted = program.counters()?.total;
        ensure!(
            counted == expected,
            "seed {seed}, {frame:02x?}: {counted:?}, on the host {expected:?}"
        );
    }
    bail!("seed {seed}: the counters differ, but not for any single frame")
}

/// Counts a frame with the data path's code, on the host.
fn on_the_host(frame: &[u8], keys: &KeySet) -> Counters {
    let mut counters = Counters::default();
    match syn::parse(frame) {
        Ok(syn) => SynContext {
            classification: Classification::of(&syn, &Socket::Unknown, || Some(keys)),
            ..SynContext::new(syn, Switches::OFF)
        }
        .count(&mut counters),
        Err(NotSyn::Unparsed) => counters.add(Counter::Unparsed, 1),
        Err(NotSyn::Other) => {}
    }
    counters
}

/// Random bytes. Most fields that identify a SYN are set, so that the parser reads on.
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
        // 1 in 30 is left random.
        if let Some(place) = frame.get_mut(*at).filter(|_| random.u8(..30) != 0) {
            *place = *byte;
        }
    }
    frame
}

/// Up to four random TCP options, some of them Fast Open.
fn options(random: &mut fastrand::Rng, flow: Flow) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..random.usize(0..5) {
        let mut bytes = vec![0; random.usize(0..20)];
        random.fill(&mut bytes);
        let option = match random.u8(0..9) {
            0 => fast_open(b""),
            1 => fast_open(&cookie(&PRIMARY, flow.0.ip(), flow.1.ip())),
            2 => fast_open(&cookie(&BACKUP, flow.0.ip(), flow.1.ip())),
            3 => fast_open(&bytes),
            4 => experimental(b""),
            5 => experimental(&cookie(&BACKUP, flow.0.ip(), flow.1.ip())),
            6 => experimental(&bytes),
            7 => linux_options(b""),
            _ => bytes.into(),
        };
        options.extend_from_slice(&option);
    }
    options.truncate(40);
    options
}

/// A SYN with up to three corrupted bytes, mostly in its headers; sometimes truncated.
fn spoiled_syn(random: &mut fastrand::Rng) -> Vec<u8> {
    let flow = random.choice(FLOWS).expect("two to choose from");
    let options = options(random, flow);
    let mut data = vec![0; random.usize(0..50)];
    random.fill(&mut data);
    let mut frame = Segment::syn(flow.0, flow.1)
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
