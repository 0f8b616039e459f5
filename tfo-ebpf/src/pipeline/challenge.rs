//! The answer to a SYN that is challenged: the frame becomes a SYN-ACK, and goes back where it came from.

use aya_ebpf::{
    EbpfContext as _,
    btf_maps::PerCpuArray,
    helpers::{bpf_check_mtu, bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::btf_map,
    programs::XdpContext,
};
use tfo_common::{
    cookie::{Addresses, Cookie, Key},
    guard::{
        GuardHead,
        cookie::{Challenge, Handshake},
    },
    syn::Syn,
    wire::{
        Link,
        answer::{Answer, Terms, WORDS},
        offer,
        tcp::MIN_HEADER_LEN,
    },
};

use crate::{
    frame::{self, Packet as _, PacketFrame},
    guard,
    site::Site,
};

/// The headers while they are written. Offsets in it are not known when the program is loaded, and the stack
/// takes none such.
#[btf_map]
static ANSWER: PerCpuArray<[u32; WORDS], 1> = PerCpuArray::new();

/// Any offset of headers in a frame has no other bits.
const OFFSET_MASK: usize = 0x7fff;
/// An IPv4 and an IPv6 header.
const V4_LEN: u16 = 20;
const V6_LEN: u16 = 40;
/// Fewest bytes of data that a segment of either can have: the kernel opens no connection below.
const V4_LEAST: u16 = 536;
const V6_LEAST: u16 = 1220;
/// What a timestamp takes of each segment.
const TIMESTAMP: u16 = 12;

/// Makes the answer to `syn` of its frame, with a Fast Open cookie of `key` where there is one. `false` where
/// that is not possible.
#[inline(always)]
pub(crate) fn challenge(
    ctx: &XdpContext,
    head: &GuardHead,
    syn: &Syn,
    site: Site,
    key: Option<&Key>,
    now: u64,
) -> bool {
    let slot = head.slot(now);
    let (Some(secret), Some(answer)) = (guard::secret(slot), ANSWER.get_ptr_mut(0)) else {
        return false;
    };
    let (network_len, least) = match syn.addresses {
        Addresses::V4(_) => (V4_LEN, V4_LEAST),
        Addresses::V6(_) => (V6_LEN, V6_LEAST),
    };
    let tcp = usize::from(syn.layout.tcp) & OFFSET_MASK;
    let frame = PacketFrame::new(ctx);
    let header_len = usize::from(syn.layout.header_len);
    if header_len < MIN_HEADER_LEN {
        return false;
    }
    let (offered, clocks) = offer::parse(&frame, tcp, header_len);
    let opaque = |word| frame::forget(word, syn.sequence.into());
    // The verifier is not to go on once for each offer.
    let offered = offered
        .with_segment_size(offered.segment_size().max(least))
        .limited(site.abilities())
        .through(opaque);
    let handshake = Handshake {
        addresses: &syn.addresses,
        ports: syn.ports,
        sequence: syn.sequence,
    };
    let challenge = Challenge::issue(secret, handshake, offered, slot);
    let segment_size = mtu(ctx).saturating_sub(network_len + MIN_HEADER_LEN as u16);
    let terms = Terms {
        sequence: challenge.sequence,
        clock: challenge.clock,
        echo: clocks.value,
        agreed: challenge.agreed,
        segment_size,
        window: window(site, segment_size, offered.timestamps()),
        window_scale: head.window_scale as u8,
        issues: key.is_some(),
        cookie: match key {
            Some(key) => Cookie::issue(key, &syn.addresses),
            None => Cookie::from_word(0),
        },
        experimental: syn.options.experimental,
    };
    // SAFETY: this CPU's own, and an answer is nothing but these words.
    let answer = unsafe { &mut *answer.cast::<Answer>() };
    let len = answer.write(syn, &terms);
    let len = frame::forget(len as u64, syn.sequence.into()) as u16 & 0x3f;
    send(ctx, syn, answer, network_len + len)
}

/// The first window, which no scale applies to: what the kernel's would be (`tcp_select_initial_window`), whole
/// segments of what the listener's buffer takes.
#[inline(always)]
fn window(site: Site, segment_size: u16, timestamps: bool) -> u16 {
    let space = (site.receive_buffer() / 2).min(u16::MAX.into()) as u16;
    let unit = segment_size.saturating_sub(if timestamps { TIMESTAMP } else { 0 });
    match space.checked_rem(unit) {
        Some(rest) if unit < space => space - rest,
        _ => space,
    }
}

/// The most bytes of a packet that the interface takes, or what Ethernet does where the kernel does not say.
#[inline(always)]
fn mtu(ctx: &XdpContext) -> u16 {
    const ETHERNET: u32 = 1500;
    let mut mtu = 0;
    // SAFETY: the context is the kernel's own, and it writes a u32. It says whether the packet is within the
    // MTU, too, which does not matter here.
    unsafe { bpf_check_mtu(ctx.as_ptr(), 0, &raw mut mtu, 0, 0) };
    let mtu = if mtu == 0 { ETHERNET } else { mtu };
    mtu.min(u16::MAX.into()) as u16
}

/// Puts the `len` bytes of headers in the place of the packet, and turns the frame around.
#[inline(always)]
fn send(ctx: &XdpContext, syn: &Syn, answer: &Answer, len: u16) -> bool {
    let at = u32::from(syn.layout.network);
    let present = (ctx.whole_len() as u32).cast_signed();
    let wanted = (at + u32::from(len)).cast_signed();
    // Mostly it is as long as the SYN.
    // SAFETY: the context is the kernel's own, and nothing that was read of the packet is used after this.
    if wanted != present && unsafe { bpf_xdp_adjust_tail(ctx.ctx, wanted - present) } != 0 {
        return false;
    }
    if ctx.link() == Link::Ethernet && !turn_around(ctx) {
        return false;
    }
    let words = answer.0.as_ptr();
    // At least an IPv4 and a TCP header, as the verifier wants to know.
    let len = u32::from(len).clamp(40, 100);
    let first = match syn.addresses {
        Addresses::V4(_) => Answer::V4 / size_of::<u32>(),
        Addresses::V6(_) => 0,
    };
    // SAFETY: one of its words.
    let words = unsafe { words.add(first) };
    // SAFETY: the context is the kernel's own, and the answer has that many bytes from there on.
    unsafe { bpf_xdp_store_bytes(ctx.ctx, at, words.cast_mut().cast(), len) == 0 }
}

/// Exchanges the Ethernet header's addresses.
#[inline(always)]
fn turn_around(ctx: &XdpContext) -> bool {
    type Addresses = [[u16; 3]; 2];
    let start = ctx.start();
    if start + size_of::<Addresses>() > ctx.end() {
        return false;
    }
    // SAFETY: within the packet, as was just checked; frames are aligned so.
    let addresses = unsafe { &mut *(start as *mut Addresses) };
    let [to, from] = *addresses;
    *addresses = [from, to];
    true
}
