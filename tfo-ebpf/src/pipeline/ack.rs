//! The program behind XDP on an interface with a guard: an ACK that answers a challenge opens its connection. Wrong ones are
//! dropped where there are too many.

use aya_ebpf::programs::TcContext;
use tfo_common::{
    counters::Counter,
    guard::{GuardHead, PortState, ack::WrongAck, challenge::Challenge},
    switches::Switches,
    wire::{
        ack::{self, Ack},
        options::negotiated::TcpOptions,
    },
};

use super::{finish, host, step::Step};
use crate::{
    kernel::{
        ack_listener::AckListener,
        barrier::barrier_var,
        clock,
        kfunc::{RequestAttributes, assign},
        listener::window_scale,
    },
    maps::{
        guard::{self, Port},
        just_accepted, switches,
    },
    packet::{
        checksum,
        read::{Packet as _, PacketFrame},
        replace,
    },
};

/// The result of validating an ACK at its listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    /// The kernel opens the connection.
    Accepted,
    /// The ACK is right, but an earlier connection is in its place.
    MeetsEarlier,
    /// The ACK is right, but the accept queue is full: the client sends it again.
    QueueFull,
    /// The ACK is right, but the kernel does not open the connection.
    Refused,
    /// The ACK answers no challenge.
    Wrong,
    /// The listener cannot be guarded, or the connection is open already.
    None,
}

/// Sees every packet. Only an ACK of no connection at a port that is or was guarded is looked at.
#[inline(always)]
pub(crate) fn ack(ctx: &TcContext) -> Step {
    let switches = switches::load();
    if !switches.has(Switches::GUARD_HOST) {
        return Step::Pass;
    }
    let Some(head) = guard::head() else {
        return Step::Pass;
    };
    ctx.pull();
    let mut port = None;
    let has_rule = |number| {
        port = Port::of(switches, number);
        port.is_some()
    };
    let (Ok(ack), Some(port)) = (
        ack::parse(&PacketFrame::new(ctx), ctx.link(), has_rule),
        port,
    ) else {
        return Step::Pass;
    };
    let (now, state) = (clock::now(), port.state());
    if !state.accepts_answers(&head, now) {
        return Step::Pass;
    }
    // A host that challenges itself sees such a connection when the SYN comes, and leaves the SYN to the kernel.
    let replaces = head.is_shared() && !replace::is_second(ctx);
    let Some(listener) = AckListener::look_up(ctx, &ack, replaces) else {
        return Step::Pass;
    };
    let (overflowed, reset_number) = (listener.overflowed(), listener.reset_number);
    let validation = if host::receives(ctx, &ack.addresses) {
        validate(ctx, &head, state, &ack, &listener, now)
    } else {
        Validation::None
    };
    listener.release();
    let port = ack.destination_port();
    match validation {
        Validation::Accepted => {
            just_accepted::remember(&ack, now);
            finish::count(port, Counter::GuardAccepted, Step::Pass)
        }
        Validation::MeetsEarlier => {
            replace::reset_and_repeat(ctx, &ack, reset_number);
            Step::Pass
        }
        Validation::QueueFull => finish::count(port, Counter::GuardQueueFull, Step::Drop),
        Validation::Refused => finish::count(port, Counter::GuardRefused, Step::Pass),
        Validation::Wrong => match WrongAck::decide(state, head.is_shared(), overflowed, now) {
            WrongAck::Dropped => {
                finish::count(port, Counter::GuardDropped, Step::Drop);
                finish::count(port, Counter::GuardWrongAcks, Step::Drop)
            }
            WrongAck::Passed => finish::count(port, Counter::GuardWrongAcks, Step::Pass),
        },
        Validation::None => Step::Pass,
    }
}

#[inline(always)]
fn validate(
    ctx: &TcContext,
    head: &GuardHead,
    state: &PortState,
    ack: &Ack,
    listener: &AckListener,
    now: u64,
) -> Validation {
    if listener.is_unfit() {
        return Validation::None;
    }
    // A segment right behind the ACK that opened its connection, which TCP does not know yet.
    let known = just_accepted::covers(ack, now);
    if known && !listener.is_accept_queue_full() {
        return Validation::None;
    }
    // Other hosts go on challenging clients without timestamps: these then connect, and a guess in 2^24, too.
    let guesses_count = !head.is_shared() || listener.meets_earlier();
    if ack.timestamps.is_none() && guesses_count && state.is_guessed_at(now) {
        return Validation::Wrong;
    }
    let slot = head.last_slot(now);
    let hide = |word| barrier_var(word, ack.sequence.into());
    let options = Challenge::options_of(ack).barrier_var(hide);
    let scale = hide(window_scale(listener.tcp, head.window_scale).into()) as u32;
    let answers =
        answers(ack, options, scale, slot) || answers(ack, options, scale, slot.wrapping_sub(1));
    // The verifier then goes on once, not once for each slot and form.
    if hide(answers.into()) == 0 {
        return if listener.meets_earlier() && ack.timestamps.is_some() {
            // Of a connection that sends so much that numbers differ by more than they should.
            Validation::None
        } else if known {
            Validation::QueueFull
        } else {
            Validation::Wrong
        };
    }
    if !checksum::is_right(ctx, ack.tcp.into(), ack.len.into(), &ack.addresses) {
        return Validation::None;
    }
    if listener.is_accept_queue_full() {
        return Validation::QueueFull;
    }
    if listener.meets_earlier() {
        return Validation::MeetsEarlier;
    }
    let timestamps = ack.timestamps.unwrap_or_default();
    let attributes = RequestAttributes::new(options, timestamps, scale);
    if assign(ctx, listener.tcp, &attributes) {
        Validation::Accepted
    } else {
        Validation::Refused
    }
}

/// `true` if `ack`, with these options, answers a challenge of the time slot that stated this window scale.
#[inline(always)]
fn answers(ack: &Ack, options: TcpOptions, scale: u32, slot: u64) -> bool {
    guard::secret(slot)
        .is_some_and(|secret| Challenge::is_answered(&secret, ack, options, scale, slot))
}
