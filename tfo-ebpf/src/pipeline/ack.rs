//! The ACK that brings a challenge back: the kernel is told to open the connection that was agreed upon.
//!
//! It does so with `bpf_sk_assign_tcp_reqsk` (Linux 6.9), which is no helper but a function of the kernel's own.
//! The program calls it by a number that stands for it, and the controller puts the function's BTF id in its
//! place; where the kernel has none, [`GUARD_PROVES`] keeps the verifier from ever coming there.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map, programs::TcContext};
use tfo_common::{
    cookie::Addresses,
    counters::Counter,
    guard::{GuardHead, cookie::Challenge},
    maps::ASSIGN_CALL,
    wire::{
        ack::{self, Ack},
        offer::{Clocks, Offer},
    },
};

use crate::{
    Fate, clock, counters,
    frame::{self, Packet as _, PacketFrame},
    guard::{self, Port},
    site::Waiting,
};

/// Set by the controller before the program is loaded: not 0 where the call was put in order.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static GUARD_PROVES: u32 = 0;

/// For so long after a port came to be guarded, in nanoseconds, an ACK of no connection may be one that the
/// kernel gave a SYN cookie: it decides.
const GRACE: u64 = 3_000_000_000;

/// For so long, in nanoseconds, a connection may have been opened that TCP has not seen yet: packets come here in
/// batches. More than two ticks of the clock.
const FRESH: u64 = 25_000_000;
const OPENED: usize = 64;

/// A connection that was opened just now.
#[repr(C)]
struct Opened {
    addresses: u64,
    ports: u32,
    acknowledged: u32,
    at: u64,
}

#[btf_map]
static OPENED_NOW: PerCpuArray<[u64; 3], OPENED> = PerCpuArray::new();

/// What the kernel wants to know of the connection: `struct bpf_tcp_req_attrs`. Its bytes and halves are put together
/// to words: LLVM would make a call of `memset` of odd bytes, which libbpf's loader does not take.
#[repr(C)]
struct Attributes {
    clock: u32,
    echo: u32,
    /// The segment size (a half), our window's scale, the client's.
    sizes: u32,
    /// ECN, windows are scaled, SACK, timestamps: a byte each.
    options: u32,
    /// Whether timestamps are of microseconds, and three bytes of zero.
    rest: u32,
}

/// Looks at every packet behind XDP: at a port that is guarded, an ACK of no connection has to prove that its
/// sender was challenged.
#[inline(always)]
pub(crate) fn demand(ctx: &TcContext) -> Fate {
    if !guard::is_armed() {
        return Fate::GoesOn;
    }
    let Some(head) = guard::head() else {
        return Fate::GoesOn;
    };
    ctx.pull();
    let mut port = None;
    let wanted = |number| {
        port = Port::of(number);
        port.is_some()
    };
    let (Ok(ack), Some(port)) = (ack::parse(&PacketFrame::new(ctx), ctx.link(), wanted), port)
    else {
        return Fate::GoesOn;
    };
    let now = clock::now();
    let (until, since) = port.span();
    if now >= until.saturating_add(head.validity()) || is_fresh(&ack, now) {
        return Fate::GoesOn;
    }
    let Some(waiting) = Waiting::look_up(ctx, &ack) else {
        return Fate::GoesOn;
    };
    let fate = answer(ctx, head, &ack, &waiting, now);
    waiting.release();
    match fate {
        // The kernel may be right about it: it was challenged by the kernel, or not at all.
        Answer::Wrong if now >= until || now < since.saturating_add(GRACE) => Fate::GoesOn,
        Answer::Wrong => {
            counters::count_at(ack.destination_port(), Counter::GuardWrongAcks);
            Fate::Ends
        }
        Answer::Accepted => {
            remember(&ack, now);
            counters::count_at(ack.destination_port(), Counter::GuardAccepted);
            Fate::GoesOn
        }
        Answer::Refused => {
            counters::count_at(ack.destination_port(), Counter::GuardRefused);
            Fate::GoesOn
        }
        Answer::Unfit => Fate::GoesOn,
    }
}

/// What became of an ACK that a listener gets.
#[derive(Clone, Copy)]
enum Answer {
    Accepted,
    /// The kernel does not open the connection.
    Refused,
    Wrong,
    /// The listener takes no proof.
    Unfit,
}

#[inline(always)]
fn answer(ctx: &TcContext, head: &GuardHead, ack: &Ack, waiting: &Waiting, now: u64) -> Answer {
    if waiting.unfit {
        return Answer::Unfit;
    }
    let slot = head.slot(now);
    let Some(agreed) = check(ack, slot).or_else(|| check(ack, slot.wrapping_sub(1))) else {
        return Answer::Wrong;
    };
    let agreed = agreed.through(|word| frame::forget(word, ack.sequence.into()));
    let attributes = attributes(agreed, ack.clocks.unwrap_or_default(), head);
    match assign(ctx, waiting, &attributes) {
        0 => Answer::Accepted,
        _ => Answer::Refused,
    }
}

#[inline(always)]
fn check(ack: &Ack, slot: u64) -> Option<Offer> {
    Challenge::check(guard::secret(slot)?, ack, slot)
}

#[inline(always)]
fn attributes(agreed: Offer, clocks: Clocks, head: &GuardHead) -> Attributes {
    let (scales, client_scale) = match agreed.window_scale() {
        Some(scale) => (true, scale),
        None => (false, 0),
    };
    let own_scale = if scales { head.window_scale } else { 0 };
    let sizes = u32::from(agreed.segment_size()) | own_scale << 16 | u32::from(client_scale) << 24;
    let options = u32::from(agreed.ecn())
        | u32::from(scales) << 8
        | u32::from(agreed.sack()) << 16
        | u32::from(agreed.timestamps()) << 24;
    Attributes {
        clock: clocks.value,
        echo: clocks.echo,
        sizes: sizes.to_le(),
        options: options.to_le(),
        rest: 0,
    }
}

/// Has the kernel open the connection. 0, or what it says against it.
#[inline(always)]
fn assign(ctx: &TcContext, waiting: &Waiting, attributes: &Attributes) -> i64 {
    const REFUSED: i64 = -1;
    // SAFETY: a live constant. Volatile, or the compiler would take the value above for granted.
    if unsafe { ptr::read_volatile(&raw const GUARD_PROVES) } == 0 {
        return REFUSED;
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = (ctx, waiting.tcp, attributes, ASSIGN_CALL);
        REFUSED
    }
    #[cfg(target_arch = "bpf")]
    {
        let result: i64;
        // SAFETY: a number that no helper has; the controller makes the call of
        // it, whose arguments these are, and the verifier checks them.
        unsafe {
            core::arch::asm!(
                "call {call}",
                call = const ASSIGN_CALL,
                inout("r1") ctx.skb.skb => _,
                inout("r2") waiting.tcp => _,
                inout("r3") ptr::from_ref(attributes) => _,
                inout("r4") size_of::<Attributes>() => _,
                out("r5") _,
                lateout("r0") result,
            );
        }
        // The function's result is an int.
        i64::from(result as i32)
    }
}

impl Opened {
    #[inline(always)]
    fn of(ack: &Ack, at: u64) -> Self {
        let addresses = match &ack.addresses {
            Addresses::V4(word) => *word,
            Addresses::V6([a, b, c, d]) => {
                a ^ b.rotate_left(1) ^ c.rotate_left(2) ^ d.rotate_left(3)
            }
        };
        Self {
            addresses,
            ports: ack.ports,
            acknowledged: ack.acknowledged,
            at,
        }
    }

    /// Where such a one is remembered on this CPU.
    #[inline(always)]
    fn place(ack: &Ack) -> Option<*mut Self> {
        let place = OPENED_NOW.get_ptr_mut(ack.acknowledged % OPENED as u32)?;
        Some(place.cast())
    }
}

#[inline(always)]
fn is_fresh(ack: &Ack, now: u64) -> bool {
    let Some(place) = Opened::place(ack) else {
        return false;
    };
    // SAFETY: this CPU's own value, whose words these are.
    let last = unsafe { &*place };
    let this = Opened::of(ack, now);
    last.addresses == this.addresses
        && last.ports == this.ports
        && last.acknowledged == this.acknowledged
        && now.wrapping_sub(last.at) < FRESH
}

#[inline(always)]
fn remember(ack: &Ack, now: u64) {
    if let Some(place) = Opened::place(ack) {
        // SAFETY: as above.
        unsafe { ptr::write(place, Opened::of(ack, now)) };
    }
}
