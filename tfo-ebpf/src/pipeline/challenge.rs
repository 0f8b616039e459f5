//! Step: the frame becomes a SYN-ACK with a challenge, and leaves as the kernel's own would.

use aya_ebpf::EbpfContext;
use tfo_common::{
    context::SynContext,
    fastopen::{Cookie, Key, own::OwnCookie},
    guard::{
        GuardAction, GuardHead,
        challenge::{Challenge, Handshake, initial_window},
        decision::needs_cookie,
    },
    wire::{
        Frame as _, View as _,
        addresses::Addresses,
        ipv4, ipv6,
        options::negotiated,
        syn::Syn,
        syn_ack::{SynAck, SynAckFields},
        tcp::MIN_HEADER_LEN,
    },
};

use super::{route, step::Step};
use crate::{
    kernel::{barrier::barrier_var, clock, device},
    maps::{
        guard::{self, GuardScratch},
        own_cookies, syn_ack,
    },
    packet::{
        answer::{Answer, Route},
        checksum,
        read::{Packet, PacketFrame},
    },
};

/// Mask of an offset of headers in a frame.
const OFFSET_MASK: usize = 0x7fff;
/// The least MSS with which the kernel opens a connection, for either version.
const IPV4_MIN_MSS: u16 = 536;
const IPV6_MIN_MSS: u16 = 1220;

/// Answers the SYN of `context`. Where the kernel's own answer would go another way, or an answer has no room, the SYN goes
/// on to the kernel.
#[inline(always)]
pub(super) fn challenge(
    ctx: &(impl EbpfContext + Answer),
    context: &mut SynContext,
    scratch: GuardScratch,
) -> Step {
    if let Some(issues_cookie) = answer(ctx, context, scratch) {
        context.guard = context.guard.with_cookie(issues_cookie);
        Step::Transmit
    } else {
        context.guard = context.guard.with_action(GuardAction::Unanswered);
        Step::Pass
    }
}

/// Turns the frame into the SYN-ACK. Returns whether that carries a Fast Open cookie; `None` leaves the frame as it was.
#[inline(always)]
fn answer(
    ctx: &(impl EbpfContext + Answer),
    context: &SynContext,
    scratch: GuardScratch,
) -> Option<bool> {
    let (head, syn_ack) = (guard::head()?, syn_ack::scratch()?);
    let syn = &context.syn;
    let len = u32::from(syn.layout.header_len) + syn.data_len;
    if !checksum::is_right(ctx, syn.layout.tcp.into(), len, &syn.addresses) {
        return None;
    }
    let route = route::back(ctx, &context.syn, head.strict != 0)?;
    let (len, issues_cookie) = write(ctx, context, scratch, &head, &route, syn_ack)?;
    ctx.send_back(&context.syn, syn_ack, len, &route)
        .then_some(issues_cookie)
}

/// Writes the SYN-ACK. Returns its length from the network header on, and whether it carries a Fast Open cookie.
#[inline(always)]
fn write(
    ctx: &(impl EbpfContext + Answer),
    context: &SynContext,
    scratch: GuardScratch,
    head: &GuardHead,
    route: &Route,
    syn_ack: &mut SynAck,
) -> Option<(u16, bool)> {
    let (syn, listener) = (&context.syn, scratch.listener());
    let now = clock::now();
    let slot = head.slot(now);
    let secret = guard::secret(slot)?;
    let (network_len, min_mss) = match syn.addresses {
        Addresses::V4(_) => (ipv4::MIN_HEADER_LEN as u16, IPV4_MIN_MSS),
        Addresses::V6(_) => (ipv6::HEADER_LEN as u16, IPV6_MIN_MSS),
    };
    let tcp = usize::from(syn.layout.tcp) & OFFSET_MASK;
    let header_len = usize::from(syn.layout.header_len);
    if header_len < MIN_HEADER_LEN {
        return None;
    }
    let (offered, timestamps) = negotiated::parse(&PacketFrame::new(ctx), tcp, header_len);
    let headers = scratch.headers();
    // The verifier then goes on once, not once for each set of options.
    let offered = offered
        .with_mss(headers.limited_mss(offered.mss()).max(min_mss))
        .limited(listener.host_options())
        .barrier_var(|word| barrier_var(word, syn.sequence.into()));
    let port = scratch.port(context.switches, syn)?;
    if !offered.timestamps() && port.state().is_guessed_at(now) {
        return None;
    }
    port.state().challenge(now);
    let scale = scratch.window_scale(head.window_scale);
    let scale = barrier_var(scale.into(), syn.sequence.into());
    let handshake = Handshake {
        addresses: &syn.addresses,
        ports: syn.ports,
        sequence: syn.sequence,
        window_scale: scale as u32,
    };
    let challenge = Challenge::issue(&secret, handshake, offered, slot, |word| {
        barrier_var(word, syn.sequence.into())
    });
    let room = scratch
        .limited_mtu(route.mtu)
        .saturating_sub(network_len + MIN_HEADER_LEN as u16);
    let mss = headers.limited_mss(head.limited_mss(room));
    let key = scratch
        .key()
        .filter(|_| needs_cookie(context.classification));
    let fields = SynAckFields {
        sequence: challenge.isn,
        tsval: challenge.tsval,
        tsecr: timestamps.tsval,
        options: challenge.options,
        mss,
        window: initial_window(listener, mss, offered.timestamps()),
        window_scale: scale as u8,
        issues_cookie: key.is_some(),
        cookie: match &key {
            Some(key) => cookie(key, context, now),
            None => Cookie::from_word(0),
        },
        experimental: syn.options.is_experimental(),
        hop_limit: headers.hop_limit(device::hop_limit(ctx.device())),
        traffic_class: headers.traffic_class(traffic_class(ctx, syn)),
    };
    let tcp_len = syn_ack.write(syn, &fields) as u64;
    let tcp_len = barrier_var(tcp_len, syn.sequence.into()) as u16 & 0x3f;
    Some((network_len + tcp_len, key.is_some()))
}

/// The cookie to hand out: an own one where this interface translates them, else the kernel's.
#[inline(always)]
fn cookie(key: &Key, context: &SynContext, now: u64) -> Cookie {
    // No closures over the addresses: BTF cannot describe those.
    if !matches!(context.own_cookie, OwnCookie::None)
        && let Some(rules) = own_cookies::in_force()
        && let Some(own) = rules.issue(&context.syn.addresses, now)
    {
        return own;
    }
    key.cookie(&context.syn.addresses)
}

/// TOS or traffic class of the SYN.
#[inline(always)]
fn traffic_class(ctx: &impl Packet, syn: &Syn) -> u8 {
    let frame = PacketFrame::new(ctx);
    let Some(start) = frame.view::<2>(syn.layout.network.into()) else {
        return 0;
    };
    match syn.addresses {
        Addresses::V4(_) => start.byte(1),
        Addresses::V6(_) => (start.half(0) >> 4) as u8,
    }
}
