//! The guard: its maps, and what it does with a SYN.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use tfo_common::{
    classify::Outcome,
    cookie::Key,
    guard::{
        self, BUCKETS, Bucket, GuardHead, GuardPort, GuardRule, Mode, Reaction, SECRETS,
        bucket_index,
    },
    judgement::Judgement,
    maps::{DEFAULT_PORT, MAX_GUARDED},
    policy::Rate,
    syn::Syn,
};

use crate::{atomic::Shared, frame, site::Site};

#[btf_map]
static GUARD: Array<GuardHead, 1> = Array::new();

#[btf_map]
static GUARD_PORTS: HashMap<
    u32,
    GuardPort,
    { MAX_GUARDED as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static GUARD_SECRETS: Array<Key, SECRETS> = Array::new();

#[btf_map]
static GUARD_BUCKETS: Array<Shared, BUCKETS> = Array::new();

/// A port's state is put off by no less than that, in nanoseconds: a word that all CPUs share is not to be
/// written at each SYN of a flood.
const STEP: u64 = 10_000_000;

/// Whether any port has a rule. This load is all that it costs to have none.
#[inline(always)]
pub(crate) fn is_armed() -> bool {
    match GUARD.get_ptr(0) {
        // SAFETY: the kernel gave the pointer, to the head's first field.
        Some(head) => unsafe { ptr::read_volatile(head.cast::<u32>()) != 0 },
        None => false,
    }
}

/// What holds for all ports.
#[inline(always)]
pub(crate) fn head<'a>() -> Option<&'a GuardHead> {
    // SAFETY: the kernel gave the pointer. The controller writes there meanwhile, each field for itself.
    unsafe { GUARD.get_ptr(0)?.as_ref() }
}

/// The secret of a slot of time.
#[inline(always)]
pub(crate) fn secret<'a>(slot: u64) -> Option<&'a Key> {
    // SAFETY: the kernel gave the pointer. The controller replaces none that is in use.
    unsafe { GUARD_SECRETS.get_ptr(guard::secret_index(slot))?.as_ref() }
}

/// A port's rule and its state.
#[derive(Clone, Copy)]
pub(crate) struct Port(*mut GuardPort);

impl Port {
    /// The one of a port that has a rule, or whose rule is that of all others.
    #[inline(always)]
    pub(crate) fn of(port: u16) -> Option<Self> {
        match GUARD_PORTS.get_ptr_mut(u32::from(port)) {
            Some(found) => Some(Self(found)),
            None => GUARD_PORTS.get_ptr_mut(DEFAULT_PORT).map(Self),
        }
    }

    #[inline(always)]
    fn rule<'a>(self) -> &'a GuardRule {
        // SAFETY: a value of the map, of which the program does not write to this part.
        unsafe { &(*self.0).rule }
    }

    /// The word of its state at an offset.
    #[inline(always)]
    fn word<'a>(self, at: usize) -> &'a Shared {
        let word = self.0.wrapping_byte_add(at).cast();
        // SAFETY: a value of the map, whose words the program accesses in no other way.
        unsafe { &*word }
    }

    #[inline(always)]
    fn until<'a>(self) -> &'a Shared {
        self.word(offset_of!(GuardPort, until))
    }

    #[inline(always)]
    fn since<'a>(self) -> &'a Shared {
        self.word(offset_of!(GuardPort, since))
    }

    #[inline(always)]
    fn bucket<'a>(self) -> &'a Shared {
        self.word(offset_of!(GuardPort, bucket))
    }

    #[inline(always)]
    fn switches<'a>(self) -> &'a Shared {
        self.word(offset_of!(GuardPort, switches))
    }

    /// Whether SYNs are looked at.
    #[inline(always)]
    pub(crate) fn is_watched(self) -> bool {
        !matches!(Mode::from_number(self.rule().mode), Mode::Off)
    }

    /// Until when it is guarded, and since when.
    #[inline(always)]
    pub(crate) fn span(self) -> (u64, u64) {
        (self.until().load(), self.since().load())
    }

    /// Whether it is guarded at `now`, when a SYN comes, with proof or without, to a listener whose SYN queue
    /// is half full or not. And whether it came to be guarded with this SYN.
    #[inline(always)]
    fn is_on(self, now: u64, proven: bool, pressed: bool) -> (bool, bool) {
        let until = self.until().load();
        let on = now < until;
        let rule = self.rule();
        if proven || !matches!(Mode::from_number(rule.mode), Mode::Auto) {
            return (on, false);
        }
        let bucket = self.bucket();
        let state = bucket.load();
        let flooded = match rule.take(on, state, now) {
            Some(next) => {
                bucket.compare_exchange(state, next);
                false
            }
            None => true,
        };
        let next = now.wrapping_add(rule.quiet);
        if !(flooded || pressed) || next < until.wrapping_add(STEP) {
            return (on, false);
        }
        let first = self.until().compare_exchange(until, next) == until;
        if on || !first {
            return (true, false);
        }
        self.since().store(now);
        self.switches().fetch_add(1);
        (true, true)
    }
}

/// Takes one from a source's bucket; `false` where nothing is left.
#[inline(always)]
fn take(secret: &Key, syn: &Syn, bucket: Bucket, rate: Rate, now: u64) -> bool {
    let index = bucket_index(secret, &syn.addresses, bucket);
    match GUARD_BUCKETS.get(index) {
        Some(bucket) => bucket.take(rate, now),
        None => true,
    }
}

/// What is done with a SYN that was judged, and meets a listener at a port that is watched.
pub(crate) struct Decision {
    pub(crate) reaction: Reaction,
    /// The port came to be guarded with it.
    pub(crate) switched: bool,
}

impl Decision {
    const NONE: Self = Self {
        reaction: Reaction::None,
        switched: false,
    };

    #[inline(always)]
    pub(crate) fn of(
        port: Port,
        head: &GuardHead,
        syn: &Syn,
        judgement: Judgement,
        site: Site,
        now: u64,
    ) -> Self {
        // What the kernel drops for what is in it needs no answer.
        if !site.listens() || judgement.is_beyond_policy() {
            return Self::NONE;
        }
        let valid = matches!(judgement.merit(), Outcome::Primary | Outcome::Backup);
        let (on, switched) = port.is_on(now, valid, site.is_pressed());
        if !on {
            return Self::NONE;
        }
        // The same one while slots go by, so that a bucket stays the same, too.
        let Some(secret) = secret(0) else {
            return Self::NONE;
        };
        let reaction = if site.is_unfit() {
            Reaction::Unfit
        } else if valid && take(secret, syn, Bucket::Proven, head.proven, now) {
            Reaction::Proven
        } else if guard::is_martian(&syn.addresses) {
            Reaction::Martian
        } else if !take(secret, syn, Bucket::Replies, head.replies, now) {
            Reaction::Capped
        } else {
            Reaction::Challenged
        };
        // The verifier is not to go on once for each way to it.
        let reaction = frame::forget(reaction as u64, syn.sequence.into());
        Self {
            reaction: Reaction::from_number(reaction as u32),
            switched,
        }
    }
}
