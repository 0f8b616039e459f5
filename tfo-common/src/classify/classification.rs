//! Both halves of a SYN's classification, in one word.

use super::{Outcome, socket::Socket};
use crate::{
    fastopen::KeySet,
    wire::{options::signature::SignatureFault, rewrite::Rewrite, syn::Syn},
};

/// The outcome by the socket and the outcome by the cookie of a SYN: enough to tell its outcome, and the one after a
/// rewrite of its option. Packed into one word, so that the verifier has one number to follow; the word 0
/// is no classification yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification(u32);

impl Classification {
    /// Not classified yet.
    pub const NONE: Self = Self(0);
    /// Bits 0 to 7: one more than the number of the socket's outcome, 0 for none. Above: the cookie's outcome, and
    /// flags.
    const COOKIE: u32 = 8;
    const NEEDS_NO_COOKIE: u32 = 1 << 16;
    const DONE: u32 = 1 << 17;

    /// Classifies `syn`, which meets `socket`. `keys` is called only where the kernel checks a cookie against the
    /// namespace's keys.
    #[inline(always)]
    pub fn of<'a>(
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
    ) -> Self {
        Self::to_extent(false, syn, socket, keys, |word| word)
    }

    /// As [`Self::of`], but every bit passes through `barrier` (see [`crate::wire::Frame::barrier_var`]). `in_full`: the cookie is
    /// checked whatever the socket decides.
    #[inline(always)]
    pub fn to_extent<'a>(
        in_full: bool,
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
        barrier: impl Fn(u64) -> u64,
    ) -> Self {
        let (at_socket, own_keys) = Self::at_socket(syn, socket);
        // The check of a cookie is long: the verifier is to follow it once, not once for each outcome of the socket.
        let at_socket = at_socket.barrier_var(&barrier);
        if !in_full && at_socket.socket_outcome().is_some() {
            return at_socket;
        }
        let cookie = Outcome::by_cookie(syn, || own_keys.or_else(keys));
        at_socket.with_cookie_outcome(cookie).barrier_var(&barrier)
    }

    /// As [`Self::to_extent`], in full.
    #[inline(always)]
    pub fn in_full<'a>(
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
        barrier: impl Fn(u64) -> u64,
    ) -> Self {
        Self::to_extent(true, syn, socket, keys, barrier)
    }

    /// As [`Self::in_full`], of a SYN whose cookie is known to have `outcome`.
    #[inline(always)]
    pub fn with_known_cookie(
        syn: &Syn,
        socket: &Socket,
        outcome: Outcome,
        barrier: impl Fn(u64) -> u64,
    ) -> Self {
        let (at_socket, _) = Self::at_socket(syn, socket);
        at_socket.with_cookie_outcome(outcome).barrier_var(&barrier)
    }

    /// The outcome by the socket, and the keys of its own.
    #[inline(always)]
    fn at_socket<'a>(syn: &Syn, socket: &'a Socket) -> (Self, Option<&'a KeySet>) {
        let (outcome, own_keys, needs_no_cookie) = match socket {
            Socket::Unknown => (None, None, false),
            Socket::None => (Some(Outcome::NoListener), None, false),
            Socket::Existing => (Some(Outcome::Retransmission), None, false),
            Socket::Listener(listener) => {
                let outcome = match listener.signature_fault(syn) {
                    Some(SignatureFault::BrokenList) => Some(Outcome::Malformed),
                    Some(SignatureFault::Unexpected) => Some(Outcome::Signed),
                    None => Outcome::at_listener(listener),
                };
                let keys = listener.keys.non_empty();
                (outcome, keys, listener.needs_no_cookie())
            }
        };
        let flag = if needs_no_cookie {
            Self::NEEDS_NO_COOKIE
        } else {
            0
        };
        let outcome = match outcome {
            Some(outcome) => outcome as u32 + 1,
            None => 0,
        };
        let classification = Self(outcome | flag | Self::DONE);
        (
            classification.with_cookie_outcome(Outcome::NoOption),
            own_keys,
        )
    }

    /// The same, each bit passed through `barrier` (see [`crate::wire::Frame::barrier_var`]).
    #[inline(always)]
    #[must_use]
    pub fn barrier_var(self, barrier: impl FnOnce(u64) -> u64) -> Self {
        Self(barrier(self.0.into()) as u32)
    }

    /// `true` unless this is [`Self::NONE`].
    #[inline(always)]
    pub const fn is_done(self) -> bool {
        self.0 & Self::DONE != 0
    }

    #[inline(always)]
    const fn with_cookie_outcome(self, outcome: Outcome) -> Self {
        Self(self.0 & !(0xff << Self::COOKIE) | (outcome as u32) << Self::COOKIE)
    }

    /// The outcome by the socket, for any cookie; `None` where the cookie decides.
    #[inline(always)]
    const fn socket_outcome(self) -> Option<Outcome> {
        match self.0 as u8 {
            0 => None,
            number => Some(Outcome::from_number(number - 1)),
        }
    }

    /// The outcome by the cookie alone: no option, request, primary, backup, malformed, bad cookie or bad length.
    /// No option where the socket decides, unless it is [`Self::in_full`].
    #[inline(always)]
    pub const fn cookie_outcome(self) -> Outcome {
        Outcome::from_number((self.0 >> Self::COOKIE) as u8)
    }

    /// The cookie is of one of the keys; known of every SYN only where the classification is [`Self::in_full`].
    #[inline(always)]
    pub const fn has_valid_cookie(self) -> bool {
        matches!(self.cookie_outcome(), Outcome::Primary | Outcome::Backup)
    }

    /// The socket takes the data of a SYN with a valid cookie now.
    #[inline(always)]
    pub const fn takes_data(self) -> bool {
        matches!(self.socket_outcome(), None | Some(Outcome::WithoutCookie))
    }

    /// The listener takes data without a cookie.
    #[inline(always)]
    pub const fn needs_no_cookie(self) -> bool {
        self.0 & Self::NEEDS_NO_COOKIE != 0
    }

    /// The outcome of `syn`, which was classified so.
    #[inline(always)]
    pub const fn outcome(self, syn: &Syn) -> Outcome {
        let asks = syn.has_fast_open();
        match self.socket_outcome() {
            None => self.cookie_outcome(),
            // The kernel gets this far with a SYN that has data only, too.
            Some(Outcome::QueueFull | Outcome::WithoutCookie) if !asks && syn.data_len == 0 => {
                Outcome::without_option(syn)
            }
            Some(Outcome::QueueFull) => Outcome::QueueFull,
            Some(Outcome::WithoutCookie) => Outcome::WithoutCookie,
            Some(outcome) if asks => outcome,
            Some(_) => Outcome::without_option(syn),
        }
    }

    /// Neither a policy nor the guard applies: nothing listens, the connection exists, or the kernel drops the SYN for
    /// its options.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        matches!(
            self.socket_outcome(),
            Some(
                Outcome::NoListener
                    | Outcome::Retransmission
                    | Outcome::Malformed
                    | Outcome::Signed
            )
        )
    }

    /// The connection, or a request for it, exists.
    #[inline(always)]
    pub const fn is_retransmission(self) -> bool {
        matches!(self.socket_outcome(), Some(Outcome::Retransmission))
    }

    /// The classification of `syn` after a rewrite of its option; `syn` is changed alike.
    #[inline(always)]
    #[must_use]
    pub const fn rewritten(self, syn: &mut Syn, rewrite: Rewrite) -> Self {
        let outcome = match rewrite {
            Rewrite::Request => {
                syn.options.set_request();
                Outcome::Request
            }
            Rewrite::Absent => {
                syn.options.set_absent();
                Outcome::without_option(syn)
            }
        };
        self.with_cookie_outcome(outcome)
    }
}
