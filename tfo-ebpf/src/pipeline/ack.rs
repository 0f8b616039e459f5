//! The program behind XDP on an interface with a guard: an ACK that answers a challenge opens its connection, and a wrong
//! one is dropped.

use aya_ebpf::programs::TcContext;
use tfo_common::{
    counters::Counter,
    guard::{GuardHead, challenge::Challenge},
    wire::{
        ack::{self, Ack},
        options::negotiated::TcpOptions,
    },
};

use super::{finish, step::Step};
use crate::{
    kernel::{
        barrier::barrier_var,
        clock,
        kfunc::{RequestAttributes, assign},
        socket::AckListener,
    },
    maps::{
        guard::{self, Port},
        just_accepted,
    },
    packet::read::{Packet as _, PacketFrame},
};

/// The result of validating an ACK at its listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    /// The kernel opens the connection.
    Accepted,
    /// The ACK is right, but the kernel does not open the connection.
    Refused,
    /// The ACK answers no challenge.
    Wrong,
    /// The listener cannot be guarded.
    Unfit,
}

/// Sees every packet. Only an ACK of no connection at a port that is or was guarded is looked at.
#[inline(always)]
pub(crate) fn ack(ctx: &TcContext) -> Step {
    if !guard::is_armed() {
        return Step::Pass;
    }
    let Some(head) = guard::head() else {
        return Step::Pass;
    };
    ctx.pull();
    let mut port = None;
    let has_rule = |number| {
        port = Port::of(number);
        port.is_some()
    };
    let (Ok(ack), Some(port)) = (
        ack::parse(&PacketFrame::new(ctx), ctx.link(), has_rule),
        port,
    ) else {
        return Step::Pass;
    };
    let (now, guarded) = (clock::now(), port.guarded_time());
    if !guarded.accepts_answers(&head, now) || just_accepted::covers(&ack, now) {
        return Step::Pass;
    }
    let Some(listener) = AckListener::look_up(ctx, &ack) else {
        return Step::Pass;
    };
    let validation = validate(ctx, &head, &ack, &listener, now);
    listener.release();
    let port = ack.destination_port();
    match validation {
        Validation::Accepted => {
            just_accepted::remember(&ack, now);
            finish::ack(port, Counter::GuardAccepted, Step::Pass)
        }
        Validation::Refused => finish::ack(port, Counter::GuardRefused, Step::Pass),
        Validation::Wrong if guarded.drops_wrong_acks(now) => {
            finish::ack(port, Counter::GuardWrongAcks, Step::Drop)
        }
        // It may answer a SYN cookie of the kernel's, which decides.
        Validation::Wrong | Validation::Unfit => Step::Pass,
    }
}

#[inline(always)]
fn validate(
    ctx: &TcContext,
    head: &GuardHead,
    ack: &Ack,
    listener: &AckListener,
    now: u64,
) -> Validation {
    if listener.unfit {
        return Validation::Unfit;
    }
    let slot = head.slot(now);
    let Some(options) = check(ack, slot).or_else(|| check(ack, slot.wrapping_sub(1))) else {
        return Validation::Wrong;
    };
    let options = options.barrier_var(|word| barrier_var(word, ack.sequence.into()));
    let timestamps = ack.timestamps.unwrap_or_default();
    let attributes = RequestAttributes::new(options, timestamps, head.window_scale);
    if assign(ctx, listener.tcp, &attributes) {
        Validation::Accepted
    } else {
        Validation::Refused
    }
}

/// The options of the challenge of a time slot that `ack` answers.
#[inline(always)]
fn check(ack: &Ack, slot: u64) -> Option<TcpOptions> {
    Challenge::check(&guard::secret(slot)?, ack, slot)
}
