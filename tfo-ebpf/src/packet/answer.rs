//! A frame that becomes a SYN-ACK and leaves again.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::{
    helpers::{
        bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_head,
        bpf_skb_change_tail, bpf_skb_get_tunnel_key, bpf_skb_store_bytes, bpf_skb_vlan_pop,
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    programs::{TcContext, XdpContext},
};
use tfo_common::wire::{
    Frame as _, Link, View as _, addresses::Addresses, checksum, ethernet, ipv4, ipv6, syn::Syn,
    syn_ack::SynAck, tcp::CHECKSUM,
};

use super::{
    read::{Packet, PacketFrame, device_link},
    write::{Bytes, WritePacket, clear},
};
use crate::kernel::barrier::barrier_var;

/// The way to the sender of a SYN.
pub(crate) struct Route {
    /// Index of the device that leads there.
    pub(crate) device: u32,
    /// Bytes that a packet may have.
    pub(crate) mtu: u16,
    /// Destination then source MAC address, in half words as they stand in a frame; zeroes where frames have none.
    pub(crate) macs: [u16; 6],
}

/// A frame that can become the answer to the SYN in it.
pub(crate) trait Answer: Packet + WritePacket {
    /// `true` where an answer may leave by any device, `false` where only by the one that the frame came by.
    const REDIRECTS: bool;

    /// The index of the device that the frame came by.
    fn device_index(&self) -> u32;

    /// The VLAN identifier of the frame of `syn`, 0 for none; `None` where it has two tags.
    fn vlan(&self, syn: &Syn) -> Option<u16>;

    /// Replaces the packet of `syn` by the `len` bytes of `syn_ack`, and the MAC addresses by those of `route`. `false` if
    /// that is not possible; the frame is unchanged then.
    fn send_back(&self, syn: &Syn, syn_ack: &SynAck, len: u16, route: &Route) -> bool;
}

/// Bytes of the shortest and of the longest header in front of the network header: Ethernet, and with two VLAN tags.
const MIN_LINK: u32 = ethernet::HEADER_LEN as u32;
const MAX_LINK: u32 = MIN_LINK + (ethernet::MAX_TAGS * ethernet::TAG_LEN) as u32;

/// Room for such a header.
type LinkHeader = [u64; 3];

impl Bytes for LinkHeader {}

/// Bytes of the shortest SYN-ACK, from the network header on.
pub(crate) const SHORTEST: u16 = 40;

/// Bits of a tag's control information with the VLAN identifier.
const IDENTIFIER: u16 = 0xfff;

impl Answer for XdpContext {
    const REDIRECTS: bool = false;

    #[inline(always)]
    fn device_index(&self) -> u32 {
        // SAFETY: the context is the kernel's own.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn vlan(&self, syn: &Syn) -> Option<u16> {
        const ONE_TAG: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;
        match usize::from(syn.layout.network) {
            ONE_TAG => {
                let frame = PacketFrame::new(self);
                let tag = frame.view::<{ ethernet::TAG_LEN }>(ethernet::HEADER_LEN)?;
                Some(tag.half(0) & IDENTIFIER)
            }
            at if at > ONE_TAG => None,
            _ => Some(0),
        }
    }

    #[inline(always)]
    fn send_back(&self, syn: &Syn, syn_ack: &SynAck, len: u16, route: &Route) -> bool {
        let at = u32::from(syn.layout.network);
        let present = (self.whole_len() as u32).cast_signed();
        let wanted = (at + u32::from(len)).cast_signed();
        // Before the frame is moved.
        let mut link = MaybeUninit::uninit();
        let link = clear::<LinkHeader>(&mut link).as_mut_ptr();
        let link_len = match self.link() {
            Link::Ethernet => at.clamp(MIN_LINK, MAX_LINK),
            Link::None => 0,
        };
        if link_len != 0 {
            // SAFETY: the context is the kernel's own, and there is room for the header.
            if unsafe { bpf_xdp_load_bytes(self.ctx, 0, link.cast(), link_len) } != 0 {
                return false;
            }
            for (index, half) in route.macs.into_iter().enumerate() {
                // SAFETY: within the header. Volatile, or LLVM would call `memcpy`.
                unsafe { ptr::write_volatile(link.cast::<u16>().wrapping_add(index), half) };
            }
        }
        if !resize(self, wanted - present) {
            return false;
        }
        if link_len != 0 {
            // SAFETY: as above. It cannot fail: the frame is longer than its first header.
            unsafe { bpf_xdp_store_bytes(self.ctx, 0, link.cast(), link_len) };
        }
        let (words, len) = bytes_of(syn, syn_ack, len);
        // SAFETY: the context is the kernel's own, and the SYN-ACK has that many bytes from there on. It cannot fail: the
        // frame has this length now.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, words, len) };
        true
    }
}

impl Answer for TcContext {
    const REDIRECTS: bool = true;

    #[inline(always)]
    fn device_index(&self) -> u32 {
        // SAFETY: the context is the kernel's own.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn vlan(&self, syn: &Syn) -> Option<u16> {
        // The kernel removed the outer tag.
        if usize::from(syn.layout.network) > ethernet::HEADER_LEN {
            return None;
        }
        // SAFETY: the context is the kernel's own.
        let skb = unsafe { &*self.skb.skb };
        Some(match skb.vlan_present {
            0 => 0,
            _ => skb.vlan_tci as u16 & IDENTIFIER,
        })
    }

    #[inline(always)]
    fn send_back(&self, syn: &Syn, syn_ack: &SynAck, len: u16, route: &Route) -> bool {
        let skb = self.skb.skb;
        let (at, tcp) = (u32::from(syn.layout.network), u32::from(syn.layout.tcp));
        let network_len = match syn.addresses {
            Addresses::V4(_) => ipv4::MIN_HEADER_LEN,
            Addresses::V6(_) => ipv6::HEADER_LEN,
        } as u32;
        let link = self.link();
        // An unfinished checksum is summed from where the SYN's TCP header was. A copy that generic XDP made lost its
        // Ethernet header.
        if tcp - at != network_len || link != device_link() {
            return false;
        }
        // Out of a tunnel, by a device that may have headers of its own: the kernel adds them in the place of an Ethernet header.
        let headers = match link {
            Link::None if route.device != self.device_index() => MIN_LINK,
            _ => 0,
        };
        if headers != 0 {
            if has_tunnel_metadata(self) {
                return false;
            }
            // SAFETY: the context is the kernel's own, and nothing that was read of the packet is used after this.
            if unsafe { bpf_skb_change_head(skb, headers, 0) } != 0 {
                return false;
            }
        }
        let (at, tcp) = (at + headers, tcp + headers);
        // SAFETY: as above.
        if unsafe { bpf_skb_change_tail(skb, at + u32::from(len), 0) } != 0 {
            return false;
        }
        // None of these can fail: the frame has this length now, and is writable.
        let checksum_at = tcp + CHECKSUM as u32;
        let unfinished = is_unfinished(self, checksum_at);
        if link == Link::Ethernet {
            store(
                self,
                0,
                route.macs.as_ptr().cast(),
                size_of_val(&route.macs) as u32,
            );
        }
        let tcp_len = u32::from(len) - network_len;
        let (words, len) = bytes_of(syn, syn_ack, len);
        store(self, at, words, len);
        if unfinished {
            let sum = checksum::pseudo_header(&syn.addresses, tcp_len).to_be_bytes();
            store(self, checksum_at, sum.as_ptr().cast(), 2);
        }
        // The device of the route adds a tag of its own.
        // SAFETY: the context is the kernel's own.
        if unsafe { (*skb).vlan_present } != 0 {
            // SAFETY: as above.
            unsafe { bpf_skb_vlan_pop(skb) };
        }
        if headers != 0 {
            // SAFETY: without a next hop, the kernel asks for the route.
            unsafe { bpf_redirect_neigh(route.device, ptr::null_mut(), 0, 0) };
        } else {
            // SAFETY: a helper without pointers.
            unsafe { bpf_redirect(route.device, 0) };
        }
        true
    }
}

/// `true` if the packet came by a tunnel device in `external` mode. Kernels without 23f3770e1a53 (6.18) lose the memory of its
/// metadata in `bpf_redirect_neigh`.
#[inline(always)]
fn has_tunnel_metadata(ctx: &TcContext) -> bool {
    const NONE: i64 = -22;
    let mut key = 0_u64;
    let len = size_of_val(&key) as u32;
    // SAFETY: the context is the kernel's own, and the key's first fields have 8 bytes.
    unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, (&raw mut key).cast(), len, 0) != NONE }
}

/// Writes `len` bytes to the packet at offset `at`.
#[inline(always)]
fn store(ctx: &TcContext, at: u32, from: *const c_void, len: u32) {
    /// `BPF_F_INVALIDATE_HASH`: another flow than that of the SYN.
    const NEW_FLOW: u64 = 1 << 1;
    // SAFETY: the context is the kernel's own; the callers' values have that many bytes.
    unsafe { bpf_skb_store_bytes(ctx.skb.skb, at, from, len, NEW_FLOW) };
}

/// `true` if the checksum at offset `at` is unfinished (`CHECKSUM_PARTIAL`): the device sums the segment. The kernel does not
/// tell, but leaves such a field alone when words of the segment change; a finished one is changed by this.
#[inline(always)]
fn is_unfinished(ctx: &TcContext, at: u32) -> bool {
    let field = || {
        let mut field = 0_u16;
        // SAFETY: the field has 2 bytes.
        unsafe { WritePacket::load(ctx, at, (&raw mut field).cast(), 2) };
        field
    };
    let before = field();
    // SAFETY: the context is the kernel's own.
    unsafe { bpf_l4_csum_replace(ctx.skb.skb, at, 0, 1, 0) };
    field() == before
}

/// The bytes of `syn_ack`, whose header is of the SYN's version, and how many those are.
#[inline(always)]
fn bytes_of(syn: &Syn, syn_ack: &SynAck, len: u16) -> (*mut c_void, u32) {
    let first = match syn.addresses {
        Addresses::V4(_) => SynAck::V4 / size_of::<u32>(),
        Addresses::V6(_) => 0,
    };
    // SAFETY: one of its words.
    let words = unsafe { syn_ack.0.as_ptr().add(first) };
    // The verifier has to see that it is at least an IPv4 and a TCP header, and at most what a SYN-ACK has.
    let more = barrier_var(u64::from(len.wrapping_sub(SHORTEST)), syn.sequence.into()) as u16;
    let len = u32::from(SHORTEST + (more & 0x3f));
    (words.cast_mut().cast(), len)
}

/// Makes the frame `more` bytes longer, or shorter. `false` if there is no room behind it nor before it.
#[inline(always)]
fn resize(ctx: &XdpContext, more: i32) -> bool {
    // Mostly it is as long as the SYN.
    if more == 0 {
        return true;
    }
    // SAFETY: the context is the kernel's own, and nothing that was read of the packet is used after this.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, more) } == 0 {
        return true;
    }
    // SAFETY: as above.
    more > 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, -more) } == 0
}
