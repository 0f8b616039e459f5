//! Step: the frame becomes a SYN-ACK with a challenge, and goes back where it came from.

use aya_ebpf::programs::XdpContext;
use tfo_common::{
    context::SynContext,
    fastopen::Cookie,
    guard::{
        GuardHead,
        challenge::{Challenge, Handshake, initial_window},
        decision::needs_cookie,
    },
    wire::{
        addresses::Addresses,
        options::negotiated,
        syn_ack::{SynAck, SynAckFields},
        tcp::MIN_HEADER_LEN,
    },
};

use super::step::Step;
use crate::{
    kernel::{barrier::barrier_var, clock},
    maps::{
        guard::{self, GuardScratch},
        syn_ack,
    },
    packet::{
        read::PacketFrame,
        write::{mtu, send_back},
    },
};

/// Mask of an offset of headers in a frame.
const OFFSET_MASK: usize = 0x7fff;
const IPV4_HEADER_LEN: u16 = 20;
const IPV6_HEADER_LEN: u16 = 40;
/// The least MSS with which the kernel opens a connection, for either version.
const IPV4_MIN_MSS: u16 = 536;
const IPV6_MIN_MSS: u16 = 1220;

/// Answers the SYN of `context`. Without the settings or a secret the SYN goes on to the kernel; a frame whose length
/// cannot be changed is dropped.
#[inline(always)]
pub(super) fn challenge(ctx: &XdpContext, context: &mut SynContext, scratch: GuardScratch) -> Step {
    let (Some(head), Some(syn_ack)) = (guard::head(), syn_ack::scratch()) else {
        context.guard = context.guard.without_action();
        return Step::Pass;
    };
    let Some((len, issues_cookie)) = write(ctx, context, scratch, &head, syn_ack) else {
        context.guard = context.guard.without_action();
        return Step::Pass;
    };
    if !send_back(ctx, &context.syn, syn_ack, len) {
        return Step::Drop;
    }
    context.guard = context.guard.with_cookie(issues_cookie);
    Step::Transmit
}

/// Writes the SYN-ACK. Returns its length from the network header on, and whether it carries a Fast Open cookie.
#[inline(always)]
fn write(
    ctx: &XdpContext,
    context: &SynContext,
    scratch: GuardScratch,
    head: &GuardHead,
    syn_ack: &mut SynAck,
) -> Option<(u16, bool)> {
    let (syn, listener) = (&context.syn, scratch.listener());
    let slot = head.slot(clock::now());
    let secret = guard::secret(slot)?;
    let (network_len, min_mss) = match syn.addresses {
        Addresses::V4(_) => (IPV4_HEADER_LEN, IPV4_MIN_MSS),
        Addresses::V6(_) => (IPV6_HEADER_LEN, IPV6_MIN_MSS),
    };
    let tcp = usize::from(syn.layout.tcp) & OFFSET_MASK;
    let header_len = usize::from(syn.layout.header_len);
    if header_len < MIN_HEADER_LEN {
        return None;
    }
    let (offered, timestamps) = negotiated::parse(&PacketFrame::new(ctx), tcp, header_len);
    // The verifier then goes on once, not once for each set of options.
    let offered = offered
        .with_mss(offered.mss().max(min_mss))
        .limited(listener.host_options())
        .barrier_var(|word| barrier_var(word, syn.sequence.into()));
    let handshake = Handshake {
        addresses: &syn.addresses,
        ports: syn.ports,
        sequence: syn.sequence,
    };
    let challenge = Challenge::issue(&secret, handshake, offered, slot);
    let mss = mtu(ctx).saturating_sub(network_len + MIN_HEADER_LEN as u16);
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
        window_scale: head.window_scale as u8,
        issues_cookie: key.is_some(),
        cookie: match &key {
            Some(key) => key.cookie(&syn.addresses),
            None => Cookie::from_word(0),
        },
        experimental: syn.options.experimental,
    };
    let tcp_len = syn_ack.write(syn, &fields) as u64;
    let tcp_len = barrier_var(tcp_len, syn.sequence.into()) as u16 & 0x3f;
    Some((network_len + tcp_len, key.is_some()))
}
