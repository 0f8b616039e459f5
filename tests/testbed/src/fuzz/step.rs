//! Abstract SYNs of a batch: addresses, ports and cookies are resolved on sending.

use tfo_userspace::model::Policy;

use super::{foreign::Foreign, rules};
use crate::{own_cookies::LIFETIME, veth::Family};

/// Maximum of option bytes in a TCP header.
const OPTIONS_MAX: usize = 40;
/// Maximum of data bytes: the frame fits the MTU.
const DATA_MAX: u16 = 1300;

/// PSH, URG, ECE and CWR: they do not matter to a listener.
const HARMLESS: u8 = 0xe8;
/// FIN, RST and ACK: with one of them, a listener does not take the segment for a SYN.
const DECIDING: u8 = 0x15;

/// SYNs to send in order, and the host's settings.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Settings in force during the batch.
    pub host: Host,
    /// SYNs in sending order.
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
    /// Own cookies are in force.
    pub own_cookies: bool,
}

/// One SYN.
#[derive(Clone, Debug)]
pub struct Step {
    /// Number of the listener, modulo the number of listeners plus one; the last is a closed port.
    pub target: usize,
    /// Address family of the packet.
    pub family: Family,
    /// Parts of the TCP options; truncated to 40 bytes.
    pub pieces: Vec<Piece>,
    /// Option bytes to overwrite: offset and value.
    pub changed: Vec<(usize, u8)>,
    /// Bytes of data.
    pub data: u16,
    /// TCP flags in addition to SYN.
    pub flags: u8,
    /// Repeats the connection (addresses, ports, sequence number) of the SYN this many steps before.
    pub repeats: Option<usize>,
    /// Added to the sequence number.
    pub ahead: u32,
    /// The reason for which the kernel delivers the SYN to no socket, if any.
    pub foreign: Option<Foreign>,
}

/// A part of the TCP options.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A Fast Open option or a similar one: kind, cookie, and cookie length.
    FastOpen(u8, CookieOf, usize),
    /// MSS, SACK permitted, timestamps and window scale, as Linux sends them.
    Linux,
    /// NOP options.
    Padding(usize),
    /// An option of this kind with random content.
    Option(u8, Vec<u8>),
    /// Random bytes.
    Bytes(Vec<u8>),
}

/// Key and client that a cookie is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieOf {
    /// Primary key of the host.
    Primary,
    /// Backup key of the host.
    Backup,
    /// Primary key of the listeners with `TCP_FASTOPEN_KEY`.
    Own,
    /// Backup key of one listener with `TCP_FASTOPEN_KEY`.
    OwnBackup,
    /// Unknown key.
    Stranger,
    /// Primary key of the host, for another client.
    AnotherClient,
    /// None of the kernel's: an own cookie, issued so many slots ago.
    Issued(u64),
}

impl Batch {
    /// The batch of a seed: 16 to 255 SYNs.
    pub fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let host = Host {
            fast_open: [3, 3, 3, 3, 3, 3, 3, 2, 515, 1][random.usize(..10)],
            syn_cookies: [1, 1, 1, 1, 0, 2][random.usize(..6)],
            policy: random.bool().then(|| rules::policy(&mut random)),
            own_cookies: random.bool(),
        };
        let len = random.usize(16..256);
        let steps = (0..len).map(|_| Step::random(&mut random)).collect();
        Self { host, steps }
    }
}

impl Step {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut chance = |percent: u8| random.u8(..100) < percent;
        let [changes, bare, harmless, deciding, repeats, ahead, foreign] =
            [20, 40, 10, 2, 12, 10, 6].map(&mut chance);
        let changes = if changes { random.usize(1..3) } else { 0 };
        let mut flags = 0;
        if harmless {
            flags |= random.u8(..) & HARMLESS;
        }
        if deciding {
            flags |= random.u8(..) & DECIDING;
        }
        let family = Family::BOTH[random.usize(..2)];
        Self {
            target: random.usize(..),
            family,
            foreign: foreign.then(|| Foreign::random(random, family)),
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

    /// `true` if a listener takes the segment for a SYN.
    pub const fn is_syn(&self) -> bool {
        self.flags & DECIDING == 0
    }

    /// The TCP options, with cookies from `cookie`; at most 40 bytes, not padded.
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

    /// Candidates for shrinking, each simplified in one place.
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
        if self.foreign.is_some() {
            push(&|step| step.foreign = None);
        }
        simpler
    }
}

/// Options of a plausible client, mostly with a Fast Open option.
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
    use CookieOf::{AnotherClient, Backup, Issued, Own, OwnBackup, Primary, Stranger};
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
        Issued(0),
        Issued(LIFETIME),
        Issued(LIFETIME + 1),
    ][random.usize(..11)];
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
        // Kinds that Linux parses, among them TCP-MD5 and TCP-AO signatures.
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
