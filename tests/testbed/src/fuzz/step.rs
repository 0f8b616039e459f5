//! The SYNs of a batch, in words: addresses, ports and cookies are found when they are sent.

use tfo_userspace::model::Policy;

use super::rules;
use crate::veth::Family;

/// Most bytes of options in a TCP header.
const OPTIONS_MAX: usize = 40;
/// Most bytes of data: the frame still fits the wire.
const DATA_MAX: u16 = 1300;

/// PSH, URG, ECE and CWR: a SYN with them is a SYN.
const HARMLESS: u8 = 0xe8;
/// FIN, RST and ACK: no SYN any more.
const DECIDING: u8 = 0x15;

/// SYNs to be sent one after the other, and the host's settings meanwhile.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The settings.
    pub host: Host,
    /// The SYNs.
    pub steps: Vec<Step>,
}

/// Settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: u32,
    /// `net.ipv4.tcp_syncookies`.
    pub syn_cookies: u32,
    /// The policy in force, if any.
    pub policy: Option<Policy>,
}

/// One SYN.
#[derive(Clone, Debug)]
pub struct Step {
    /// The listener, by its number.
    pub target: usize,
    /// The family of the client and of the packet.
    pub family: Family,
    /// What the options are made of; what is too long is cut off.
    pub pieces: Vec<Piece>,
    /// Bytes of the options that are changed afterwards, by their place.
    pub changed: Vec<(usize, u8)>,
    /// How much data there is.
    pub data: u16,
    /// Flags beside SYN.
    pub flags: u8,
    /// It comes from the port of the SYN that was sent so many before it, to the same listener.
    pub repeats: Option<usize>,
    /// By how much its sequence number is higher.
    pub ahead: u32,
}

/// A part of the options.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Fast Open's option, or what resembles it: kind, which cookie, and how much of it.
    FastOpen(u8, CookieOf, usize),
    /// What a Linux client begins with.
    Linux,
    /// No-operations.
    Padding(usize),
    /// An option of this kind with a body of any bytes.
    Option(u8, Vec<u8>),
    /// Any bytes.
    Bytes(Vec<u8>),
}

/// Whose cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieOf {
    /// Of the host's first key.
    Primary,
    /// Of the host's second key.
    Backup,
    /// Of the first key that some listeners have.
    Own,
    /// Of the second key that one listener has.
    OwnBackup,
    /// Of a key that is nobody's.
    Stranger,
    /// Of the host's first key, for another client.
    AnotherClient,
}

impl Batch {
    /// The batch of a seed.
    pub fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let host = Host {
            fast_open: [3, 3, 3, 3, 3, 3, 3, 2, 515, 1][random.usize(..10)],
            syn_cookies: [1, 1, 1, 1, 0, 2][random.usize(..6)],
            policy: random.bool().then(|| rules::policy(&mut random)),
        };
        let len = random.usize(16..256);
        let steps = (0..len).map(|_| Step::random(&mut random)).collect();
        Self { host, steps }
    }
}

impl Step {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut chance = |percent: u8| random.u8(..100) < percent;
        let [changes, bare, harmless, deciding, repeats, ahead] =
            [20, 40, 10, 2, 12, 10].map(&mut chance);
        let changes = if changes { random.usize(1..3) } else { 0 };
        let mut flags = 0;
        if harmless {
            flags |= random.u8(..) & HARMLESS;
        }
        if deciding {
            flags |= random.u8(..) & DECIDING;
        }
        Self {
            target: random.usize(..),
            family: Family::BOTH[random.usize(..2)],
            pieces: pieces(random),
            changed: (0..changes)
                .map(|_| (random.usize(..OPTIONS_MAX), random.u8(..)))
                .collect(),
            data: if bare { 0 } else { random.u16(1..DATA_MAX) },
            flags,
            repeats: repeats.then(|| random.usize(1..8)),
            ahead: if repeats && ahead { random.u32(..) } else { 0 },
        }
    }

    /// Whether a listener would see a SYN.
    pub const fn is_syn(&self) -> bool {
        self.flags & DECIDING == 0
    }

    /// The options, with the cookies that `cookie` gives.
    pub fn options(&self, cookie: impl Fn(CookieOf) -> [u8; 8]) -> Vec<u8> {
        let mut options = Vec::new();
        for piece in &self.pieces {
            piece.write(&mut options, &cookie);
        }
        options.truncate(OPTIONS_MAX);
        for (at, byte) in &self.changed {
            if let Some(place) = options.get_mut(*at) {
                *place = *byte;
            }
        }
        options
    }

    /// SYNs that are a little simpler.
    pub fn simpler(&self) -> Vec<Self> {
        let mut simpler = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut step = self.clone();
            change(&mut step);
            simpler.push(step);
        };
        for index in 0..self.pieces.len() {
            push(&|step| drop(step.pieces.remove(index)));
            if let Piece::Bytes(bytes) | Piece::Option(_, bytes) = &self.pieces[index]
                && !bytes.is_empty()
            {
                push(&|step| {
                    if let Piece::Bytes(bytes) | Piece::Option(_, bytes) = &mut step.pieces[index] {
                        bytes.pop();
                    }
                });
            }
        }
        for index in 0..self.changed.len() {
            push(&|step| {
                step.changed.remove(index);
            });
        }
        for data in [0, 1] {
            if self.data > data {
                push(&|step| step.data = data);
            }
        }
        if self.flags != 0 {
            push(&|step| step.flags = 0);
        }
        if self.ahead != 0 {
            push(&|step| step.ahead = 0);
        }
        if self.repeats.is_some() {
            push(&|step| step.repeats = None);
        }
        simpler
    }
}

/// A list of options like a client's, mostly with one of Fast Open's.
fn pieces(random: &mut fastrand::Rng) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if random.u8(..100) < 30 {
        pieces.push(Piece::Linux);
    }
    for _ in 0..random.usize(..3) {
        if random.bool() {
            pieces.push(other(random));
        }
        if random.u8(..100) < 80 {
            pieces.push(fast_open(random));
        }
    }
    if random.u8(..100) < 20 {
        pieces.push(other(random));
    }
    pieces
}

fn fast_open(random: &mut fastrand::Rng) -> Piece {
    use CookieOf::{AnotherClient, Backup, Own, OwnBackup, Primary, Stranger};
    let kind = [34, 34, 34, 34, 34, 34, 254, 254, 254, 253][random.usize(..10)];
    let cookie = [
        Primary,
        Primary,
        Primary,
        Backup,
        Own,
        OwnBackup,
        Stranger,
        AnotherClient,
    ][random.usize(..8)];
    let len = match random.u8(..100) {
        0..65 => 8,
        65..85 => 0,
        _ => random.usize(..20),
    };
    Piece::FastOpen(kind, cookie, len)
}

fn other(random: &mut fastrand::Rng) -> Piece {
    let mut bytes = vec![0; random.usize(..12)];
    random.fill(&mut bytes);
    match random.u8(..10) {
        0..3 => Piece::Padding(random.usize(1..5)),
        3..5 => Piece::Bytes(bytes),
        5..7 => Piece::Option(random.u8(..), bytes),
        // Those that TCP knows, among them signatures of 16 bytes.
        _ => {
            let kind = [2, 3, 4, 5, 8, 19, 29, 30, 254][random.usize(..9)];
            let len = [2, 1, 0, 8, 8, 16, 16, 10, 6];
            bytes.resize(len[random.usize(..9)], 0x5a);
            Piece::Option(kind, bytes)
        }
    }
}

impl Piece {
    fn write(&self, options: &mut Vec<u8>, cookie: &impl Fn(CookieOf) -> [u8; 8]) {
        match self {
            Self::FastOpen(kind, of, len) => {
                let magic: &[u8] = if *kind == 34 { &[] } else { &[0xf9, 0x89] };
                options.extend([*kind, (2 + magic.len() + len) as u8]);
                options.extend(magic);
                options.extend(cookie(*of).iter().cycle().take(*len));
            }
            Self::Linux => options.extend(
                b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x5c\x3f\x10\x9a\0\0\0\0\x01\x03\x03\x07",
            ),
            Self::Padding(len) => options.extend(vec![1; *len]),
            Self::Option(kind, body) => {
                options.extend([*kind, 2 + body.len() as u8]);
                options.extend(body);
            }
            Self::Bytes(bytes) => options.extend(bytes),
        }
    }
}
