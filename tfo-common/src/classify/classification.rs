//! What is known of a SYN when its outcome is.

use crate::{
    classify::Outcome,
    cookie::KeySet,
    socket::Socket,
    syn::Syn,
    wire::{options::FastOpen, rewrite::Rewrite, signature::Refusal},
};

/// All that is known of a SYN when its outcome is, packed into one word: enough to say what it comes to if its
/// option is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement(u32);

impl Judgement {
    /// Where the parts are: one more than the barrier's number, 0 for none; the merit's number; a flag.
    const MERIT: u32 = 8;
    const NEEDS_NO_COOKIE: u32 = 1 << 16;

    /// Judges `syn`, which meets `socket`. The host's keys are asked for only where the kernel checks a cookie
    /// against them.
    #[inline(always)]
    pub fn of<'a>(
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
    ) -> Self {
        let (barred, own_keys) = Self::at_socket(syn, socket);
        if barred.barrier().is_some() {
            return barred;
        }
        barred.with_merit(Outcome::by_cookie(syn, || own_keys.or_else(keys)))
    }

    /// As [`Self::of`], but its cookie is checked in any case; and every part has been through `opaque` (see
    /// [`crate::wire::Frame::opaque`]).
    #[inline(always)]
    pub fn in_full<'a>(
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
        opaque: impl Fn(u64) -> u64,
    ) -> Self {
        let (barred, own_keys) = Self::at_socket(syn, socket);
        // Before the cookie is checked, which is long: not once for each thing that a socket decides.
        let barred = barred.through(&opaque);
        let merit = Outcome::by_cookie(syn, || own_keys.or_else(keys));
        barred.with_merit(merit).through(&opaque)
    }

    /// What the socket decides whatever the option is worth, and the keys that it has of its own.
    #[inline(always)]
    fn at_socket<'a>(syn: &Syn, socket: &'a Socket) -> (Self, Option<&'a KeySet>) {
        let (barrier, own_keys, needs_no_cookie) = match socket {
            Socket::Unknown => (None, None, false),
            Socket::None => (Some(Outcome::NoListener), None, false),
            Socket::Existing => (Some(Outcome::Retransmission), None, false),
            Socket::Listener(listener) => {
                let barrier = match listener.refusal(syn) {
                    Some(Refusal::Broken) => Some(Outcome::Malformed),
                    Some(Refusal::Unexpected) => Some(Outcome::Signed),
                    None => Outcome::at_listener(listener),
                };
                let keys = listener.keys.non_empty();
                (barrier, keys, listener.needs_no_cookie())
            }
        };
        let flag = if needs_no_cookie {
            Self::NEEDS_NO_COOKIE
        } else {
            0
        };
        let barrier = match barrier {
            Some(barrier) => barrier as u32 + 1,
            None => 0,
        };
        let judgement = Self(barrier | flag).with_merit(Outcome::NoOption);
        (judgement, own_keys)
    }

    /// The same, where every part has been through `opaque` (see [`crate::wire::Frame::opaque`]).
    #[inline(always)]
    #[must_use]
    pub fn through(self, opaque: impl FnOnce(u64) -> u64) -> Self {
        Self(opaque(self.0.into()) as u32)
    }

    /// The judgement in one word.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The judgement of a word.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    const fn with_merit(self, merit: Outcome) -> Self {
        Self(self.0 & !(0xff << Self::MERIT) | (merit as u32) << Self::MERIT)
    }

    /// What the socket decides whatever the option is worth.
    #[inline(always)]
    const fn barrier(self) -> Option<Outcome> {
        match self.0 as u8 {
            0 => None,
            number => Some(Outcome::from_number(number - 1)),
        }
    }

    /// What the option is worth by itself: no option, request, primary, backup, malformed, bad cookie or
    /// bad length. Not looked into (no option) where the socket decides, unless it was asked for.
    #[inline(always)]
    pub const fn merit(self) -> Outcome {
        Outcome::from_number((self.0 >> Self::MERIT) as u8)
    }

    /// Data is taken whatever the cookie.
    #[inline(always)]
    pub const fn needs_no_cookie(self) -> bool {
        self.0 & Self::NEEDS_NO_COOKIE != 0
    }

    /// What the SYN comes to.
    #[inline(always)]
    pub const fn outcome(self, syn: &Syn) -> Outcome {
        let asks = !matches!(syn.options.fast_open, FastOpen::Absent);
        match self.barrier() {
            None => self.merit(),
            // The kernel comes this far with a SYN that has but data, too.
            Some(Outcome::QueueFull | Outcome::WithoutCookie) if !asks && syn.data_len == 0 => {
                Outcome::without_option(syn)
            }
            Some(Outcome::QueueFull) => Outcome::QueueFull,
            Some(Outcome::WithoutCookie) => Outcome::WithoutCookie,
            Some(barrier) if asks => barrier,
            Some(_) => Outcome::without_option(syn),
        }
    }

    /// No policy has a part in it: nothing listens, the connection exists, or the kernel drops the SYN for
    /// what is in it.
    #[inline(always)]
    pub const fn is_beyond_policy(self) -> bool {
        matches!(
            self.barrier(),
            Some(
                Outcome::NoListener
                    | Outcome::Retransmission
                    | Outcome::Malformed
                    | Outcome::Signed
            )
        )
    }

    /// What this is once `syn`'s option has been rewritten, which changes it alike.
    #[inline(always)]
    #[must_use]
    pub const fn rewritten(self, syn: &mut Syn, rewrite: Rewrite) -> Self {
        let (merit, fast_open) = match rewrite {
            Rewrite::Request => (Outcome::Request, FastOpen::Request),
            Rewrite::Absent => (Outcome::without_option(syn), FastOpen::Absent),
        };
        syn.options.fast_open = fast_open;
        self.with_merit(merit)
    }
}
