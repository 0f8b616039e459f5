//! The guard: while a port is flooded, a SYN with a valid Fast Open cookie passes, and every other one is
//! answered without the kernel, which then hears of those alone who bring back the answer's cookie.
//!
//! A valid cookie proves that its sender can receive at its address: it was handed there, before. Nothing is
//! kept of a SYN that was challenged ([`cookie`]).

pub mod cookie;
mod gate;

pub use gate::{GuardPort, GuardRule, Mode};

use crate::{
    classify,
    cookie::{Addresses, Key},
    counters::{Counter, Counters},
    judgement::Judgement,
    policy::Rate,
    sources::Address,
    syn::Syn,
    wire::options::FastOpen,
};

/// What holds for all guarded ports of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardHead {
    /// 1 where any port has a rule, else 0: this is all that a host without a guard looks at.
    pub armed: u32,
    /// A slot of time is 2 to the power of that many nanoseconds: [`SLOT_SHIFT`], but in tests.
    pub slot_shift: u32,
    /// The scale of the windows that the kernel will advertise: `tcp_select_initial_window`.
    pub window_scale: u32,
    /// Zero.
    pub reserved: u32,
    /// SYN-ACKs to one source, IPv4 by address and IPv6 by its first 64 bits.
    pub replies: Rate,
    /// SYNs with a valid cookie of one source; those beyond are challenged like any other.
    pub proven: Rate,
}

// SAFETY: `repr(C)`, four u32 and two pairs of them: no padding, and any bytes are a head.
#[cfg(feature = "user")]
unsafe impl aya::Pod for GuardHead {}

/// A slot of time: 68.7 seconds. A challenge is good in its slot and in the next one.
pub const SLOT_SHIFT: u32 = 36;
/// Secrets that there are at once. Each slot of time has one, in turn, so that the one of the slot after the
/// next can be replaced while packets are held against the others.
pub const SECRETS: usize = 4;
/// Buckets of sources. Those that share one share what it allows; which do depends on a secret.
pub const BUCKETS: usize = 1 << 16;

impl GuardHead {
    /// The slot of time of `now`, in nanoseconds.
    #[inline(always)]
    pub const fn slot(&self, now: u64) -> u64 {
        now >> (self.slot_shift % u64::BITS)
    }

    /// How long a challenge is good at least, in nanoseconds.
    #[inline(always)]
    pub const fn validity(&self) -> u64 {
        2 << (self.slot_shift % u64::BITS)
    }
}

/// The place of the secret of a slot of time.
#[inline(always)]
pub const fn secret_index(slot: u64) -> u32 {
    slot as u32 % SECRETS as u32
}

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Bucket {
    /// SYN-ACKs.
    Replies,
    /// SYNs with a valid cookie.
    Proven,
}

/// The place of a source's bucket: multiply-shift hashing (Dietzfelbinger et al., 1997) under a secret, of which
/// nothing is ever shown.
#[inline(always)]
pub fn bucket_index(secret: &Key, addresses: &Addresses, bucket: Bucket) -> u32 {
    let [a, b] = match addresses {
        Addresses::V4(_) => Address::source(addresses).0,
        Addresses::V6([a, ..]) => [*a, 0],
    };
    let [k0, k1] = secret.words();
    let first = (a ^ k0).wrapping_mul(k1 | 1);
    let mixed = (first ^ first >> 32 ^ b ^ bucket as u64).wrapping_mul(k0 | 1);
    (mixed >> 48) as u32 % BUCKETS as u32
}

/// Whether nobody can be at the source address: the kernel drops what comes from there
/// (`ip_route_input_slow`, `ip6_rcv_core`), and an answer would reach the wrong ones.
#[inline(always)]
pub const fn is_martian(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4(word) => {
            let (source, destination) = (*word as u32, (*word >> 32) as u32);
            let first = source as u8;
            let loops = first == 127 && destination as u8 != 127;
            // 0/8; 224/4; 255.255.255.255.
            first == 0
                || first & 0xf0 == 0xe0
                || source == u32::MAX
                || loops
                || (source == destination && first != 127)
        }
        Addresses::V6([a, b, c, d]) => {
            let loopback = *a == 0 && *b == 1 << 56;
            let to_loopback = *c == 0 && *d == 1 << 56;
            let unspecified = *a == 0 && *b == 0;
            let mapped = *a == 0 && *b as u32 == 0xffff_0000;
            let same = *a == *c && *b == *d;
            *a as u8 == 0xff
                || unspecified
                || mapped
                || (loopback && !to_loopback)
                || (same && !loopback)
        }
    }
}

/// What the guard does with a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Reaction {
    /// Nothing: its port is not guarded, or nothing is to be guarded there.
    #[default]
    None,
    /// It passes: its cookie is valid.
    Proven,
    /// It passes, since it cannot be challenged.
    Unfit,
    /// It is answered, and goes no further.
    Challenged,
    /// It goes no further: its source gets no more answers for the moment.
    Capped,
    /// It goes no further: nobody can be at its source.
    Martian,
}

impl Reaction {
    /// Every reaction, in the order of its discriminant.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Proven,
        Self::Unfit,
        Self::Challenged,
        Self::Capped,
        Self::Martian,
    ];

    /// The reaction that has this discriminant; the last one for greater numbers.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Proven,
            2 => Self::Unfit,
            3 => Self::Challenged,
            4 => Self::Capped,
            _ => Self::Martian,
        }
    }

    /// Whether the SYN goes no further.
    pub const fn blocks(self) -> bool {
        matches!(self, Self::Challenged | Self::Capped | Self::Martian)
    }

    /// What counts it.
    #[inline(always)]
    pub const fn counter(self) -> Option<Counter> {
        Some(match self {
            Self::None => return None,
            Self::Proven => Counter::GuardProven,
            Self::Unfit => Counter::GuardUnfit,
            Self::Challenged => Counter::GuardChallenged,
            Self::Capped => Counter::GuardCapped,
            Self::Martian => Counter::GuardMartian,
        })
    }

    /// Counts `syn`, which goes no further. `issued`: its sender was handed a Fast Open cookie. The kernel sees
    /// nothing of it, and counts nothing.
    #[inline(always)]
    pub fn count(self, syn: &Syn, judgement: Judgement, issued: bool, counters: &mut Counters) {
        classify::count_seen(syn, counters);
        if let Some(counter) = self.counter() {
            counters.add(counter, 1);
        }
        if issued {
            counters.add(Counter::GuardCookies, 1);
        }
        match judgement.outcome(syn).reason() {
            Some(reason) => classify::count_reason(reason, syn, counters),
            // It asked for a cookie, and has one.
            None if issued && matches!(syn.options.fast_open, FastOpen::Request) => {}
            None => classify::count_reason(Counter::ReasonGuard, syn, counters),
        }
    }

    /// The reaction in a word, for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Proven => "proven",
            Self::Unfit => "unfit",
            Self::Challenged => "challenged",
            Self::Capped => "capped",
            Self::Martian => "martian",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions_are_in_the_order_of_their_discriminants() {
        for (index, reaction) in Reaction::ALL.into_iter().enumerate() {
            assert_eq!(reaction as usize, index);
            assert_eq!(Reaction::from_number(index as u32), reaction);
        }
    }

    #[test]
    fn martians_are_known() {
        let v4 = |source| Addresses::v4(source, [10, 0, 0, 1]);
        for source in [
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 255, 0, 1],
            [255; 4],
            [10, 0, 0, 1],
        ] {
            assert!(is_martian(&v4(source)), "{source:?}");
        }
        for source in [[10, 0, 0, 2], [223, 255, 255, 255], [240, 0, 0, 1]] {
            assert!(!is_martian(&v4(source)), "{source:?}");
        }
        let lo = [127, 0, 0, 1];
        assert!(!is_martian(&Addresses::v4(lo, lo)));
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let to = v6("2001:db8::1");
        for source in ["::", "::1", "::ffff:10.0.0.2", "ff02::1", "2001:db8::1"] {
            assert!(is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        for source in ["2001:db8::2", "fe80::1"] {
            assert!(!is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        assert!(!is_martian(&Addresses::v6(v6("::1"), v6("::1"))));
    }

    const KEY: Key = Key::from_groups([0x9e37_79b9, 0x7f4a_7c15, 0xbf58_476d, 0x1ce4_e5b9]);

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |a, b| bucket_index(&KEY, &Addresses::V6([a, b, 0, 0]), Bucket::Replies);
        assert_eq!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }

    /// Sources that follow each other, as those of a network do, are spread over all buckets.
    #[test]
    fn sources_spread_over_the_buckets() {
        let mut taken = std::vec![0_u32; BUCKETS];
        for source in 0..4 * BUCKETS as u32 {
            let addresses = Addresses::v4(source.to_be_bytes(), [10, 0, 0, 1]);
            taken[bucket_index(&KEY, &addresses, Bucket::Replies) as usize] += 1;
        }
        let empty = taken.iter().filter(|count| **count == 0).count();
        assert!(empty < BUCKETS / 4, "{empty} of {BUCKETS} are empty");
        assert!(taken.iter().all(|count| *count < 64));
    }
}
