//! The only reader of packet memory.

use core::{ffi::c_void, mem::offset_of, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{bpf_skb_pull_data, bpf_xdp_get_buff_len},
    programs::{TcContext, XdpContext},
};
use tfo_common::wire::{Frame, Link, View, ethernet, ipv4, ipv6, tcp};

use super::{
    decap,
    unaligned::{load_half, load_word},
};
use crate::kernel::{barrier::barrier_var, device::Device};

/// Set by the controller before the program is loaded: not 0 where the interface carries bare packets. Without a section
/// of its own, LLVM merges it with other constants 0, such as a map's key, which would then change with it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static BARE_PACKETS: u32 = 0;

/// The header in front of the interface's packets.
#[inline(always)]
pub(super) fn device_link() -> Link {
    // Volatile, or LLVM would take the value above for granted. The verifier knows the real one, and removes dead code.
    // SAFETY: a live constant.
    match unsafe { ptr::read_volatile(&raw const BARE_PACKETS) } {
        0 => Link::Ethernet,
        _ => Link::None,
    }
}

/// Bytes of a socket buffer that are made readable, as TCP itself does a little later: Ethernet, IPv6 and TCP take at most
/// 118 without extension headers.
const HEADERS: u32 = 128;
/// The same of what may be a tunnel: an outer header takes at most 206 before the inner one, but with few options 106.
const TUNNEL_HEADERS: u32 = 256;

/// A program's context: a frame, of which some first part can be read directly.
pub(crate) trait Packet {
    /// The address of the frame's first byte.
    fn start(&self) -> usize;

    /// The address behind the last readable byte.
    fn end(&self) -> usize;

    /// Bytes of the frame, in all of its buffers.
    fn whole_len(&self) -> usize;

    /// The frame's readable length, which the verifier does not know. LLVM reads it once for several barriers, where it would
    /// repeat what [`bound`] does for each.
    fn noise(&self) -> u64;

    /// The context's address.
    fn context(&self) -> *mut c_void;

    /// The context is a socket buffer, not an XDP frame.
    fn is_skb(&self) -> bool;

    /// The device that the frame came by; `None` where the kernel does not tell.
    #[inline(always)]
    fn device(&self) -> Option<Device> {
        Device::of(self.context(), self.is_skb())
    }

    /// The frame was sent to `mac`, its device's address, or to whoever is on a link without addresses.
    fn is_sent_to(&self, mac: u64) -> bool;

    /// The header in front of the network header.
    fn link(&self) -> Link {
        device_link()
    }

    /// Headers may not be readable before [`Self::pull`].
    fn is_scattered(&self) -> bool {
        false
    }

    /// Makes the frame's headers readable, as far as that is possible.
    fn pull(&self) {}
}

/// Reads a bound of the packet from the context. Volatile, so that it is reread for every access: otherwise what the
/// verifier knows of the bounds makes every path to an option a separate one, and there are too many.
#[inline(always)]
fn bound(field: &u32) -> usize {
    // SAFETY: a reference.
    unsafe { ptr::read_volatile(field) as usize }
}

/// The difference of two bounds of the packet, at these offsets of the context.
#[inline(always)]
fn readable_len<C, const START: usize, const END: usize>(context: &C) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let len: u64;
        // In 64-bit registers: LLVM would extend one that it keeps for later, which the verifier forbids with a pointer.
        // SAFETY: two loads from the kernel's own context.
        unsafe {
            core::arch::asm!(
                "{len} = *(u32 *)({context} + {END})",
                "{start} = *(u32 *)({context} + {START})",
                "{len} -= {start}",
                len = out(reg) len,
                start = out(reg) _,
                context = in(reg) core::ptr::from_ref(context),
                START = const START,
                END = const END,
                options(pure, readonly, nostack),
            );
        }
        len
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        core::ptr::from_ref(context).addr() as u64 + (END - START) as u64
    }
}

impl Packet for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        bound(unsafe { &(*self.ctx).data })
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        bound(unsafe { &(*self.ctx).data_end })
    }

    #[inline(always)]
    fn whole_len(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as usize }
    }

    #[inline(always)]
    fn noise(&self) -> u64 {
        // SAFETY: the context is the kernel's own.
        readable_len::<_, { offset_of!(xdp_md, data) }, { offset_of!(xdp_md, data_end) }>(unsafe {
            &*self.ctx
        })
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.ctx.cast()
    }

    #[inline(always)]
    fn is_skb(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_sent_to(&self, mac: u64) -> bool {
        match self.link() {
            Link::None => true,
            Link::Ethernet => PacketFrame::new(self)
                .words::<1>(0)
                .is_some_and(|[word]| ethernet::mac(word) == mac),
        }
    }
}

impl Packet for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        bound(unsafe { &(*self.skb.skb).data })
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: the context is the kernel's own.
        bound(unsafe { &(*self.skb.skb).data_end })
    }

    #[inline(always)]
    fn whole_len(&self) -> usize {
        self.len() as usize
    }

    #[inline(always)]
    fn noise(&self) -> u64 {
        // SAFETY: the context is the kernel's own.
        readable_len::<_, { offset_of!(__sk_buff, data) }, { offset_of!(__sk_buff, data_end) }>(
            unsafe { &*self.skb.skb },
        )
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.skb.skb.cast()
    }

    #[inline(always)]
    fn is_skb(&self) -> bool {
        true
    }

    #[inline(always)]
    fn is_sent_to(&self, _: u64) -> bool {
        /// `PACKET_HOST`: the driver compared the addresses.
        const HOST: u32 = 0;
        // SAFETY: the context is the kernel's own.
        unsafe { (*self.skb.skb).pkt_type == HOST }
    }

    #[inline(always)]
    fn link(&self) -> Link {
        // If generic XDP made the kernel copy the packet, the copy lost the length of its Ethernet header
        // (`skb_pp_cow_data`), and the packet starts behind it.
        const TYPE: usize = ethernet::HEADER_LEN - 2;
        // SAFETY: the context is the kernel's own.
        let protocol = u16::from_be(unsafe { (*self.skb.skb).protocol } as u16);
        match PacketFrame::new(self).view::<{ ethernet::HEADER_LEN }>(0) {
            Some(header) if header.half(TYPE) != protocol => {
                match (protocol, header.byte(0) >> 4) {
                    (ethernet::IPV4, 4) | (ethernet::IPV6, 6) => Link::None,
                    _ => device_link(),
                }
            }
            _ => device_link(),
        }
    }

    #[inline(always)]
    fn is_scattered(&self) -> bool {
        self.end() - self.start() < headers(self) as usize
    }

    #[inline(always)]
    fn pull(&self) {
        if self.is_scattered() {
            let headers = headers(self);
            // SAFETY: the context is the kernel's own, and nothing of the packet has been read yet. If it fails, less can
            // be read.
            let _ = unsafe { bpf_skb_pull_data(self.skb.skb, headers) };
        }
    }
}

/// Bytes of a socket buffer that have to be readable.
#[inline(always)]
fn headers(ctx: &TcContext) -> u32 {
    let headers = if decap::is_on() && !is_tcp(ctx) {
        TUNNEL_HEADERS
    } else {
        HEADERS
    };
    ctx.len().min(headers)
}

/// TCP follows the network header, as far as that can be told before headers are readable.
#[inline(always)]
fn is_tcp(ctx: &TcContext) -> bool {
    const NETWORK: usize = ethernet::HEADER_LEN;
    let protocol = PacketFrame::new(ctx)
        .view::<{ NETWORK + ipv4::PROTOCOL + 1 }>(0)
        .map_or(0, |header| match header.half(NETWORK - 2) {
            ethernet::IPV4 => header.byte(NETWORK + ipv4::PROTOCOL),
            ethernet::IPV6 => header.byte(NETWORK + ipv6::NEXT_HEADER),
            _ => 0,
        });
    protocol == tcp::PROTOCOL
}

/// The frame of one run of a program.
pub(crate) struct PacketFrame<'a, P> {
    packet: &'a P,
}

impl<'a, P: Packet> PacketFrame<'a, P> {
    pub(crate) const fn new(packet: &'a P) -> Self {
        Self { packet }
    }

    /// The address of the `len` bytes from offset `at`, if they can be read.
    #[inline(always)]
    fn address(&self, at: usize, len: usize) -> Option<usize> {
        let start = self.packet.start() + at;
        #[cfg_attr(
            not(target_arch = "bpf"),
            expect(unused_mut, reason = "the instruction below is BPF's")
        )]
        let mut end = start + len;
        // LLVM would turn a check for one byte into `start >= data_end`, from which the verifier learns nothing. It cannot
        // see through this instruction.
        #[cfg(target_arch = "bpf")]
        // SAFETY: a register copied to itself.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) end, options(pure, nomem, nostack));
        }
        if end > self.packet.end() {
            return None;
        }
        Some(start)
    }
}

impl<P: Packet> Frame for PacketFrame<'_, P> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.packet.end() - self.packet.start()
    }

    #[inline(always)]
    fn whole_len(&self) -> usize {
        self.packet.whole_len()
    }

    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let address = self.address(at, N)? as *const [u8; N];
        // SAFETY: `address` checked that these N bytes lie within the packet, as the kernel's
        // verifier proves again at load; bytes have no alignment.
        Some(unsafe { ptr::read(address) })
    }

    #[inline(always)]
    fn view<const N: usize>(&self, at: usize) -> Option<impl View> {
        Some(PacketView::<N>(self.address(at, N)?))
    }

    #[inline(always)]
    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        let address = self.address(at, 8 * N)?;
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            // SAFETY: `address` checked that N words lie within the packet.
            *word = unsafe { load_word(address + 8 * i) };
        }
        Some(words)
    }

    #[inline(always)]
    fn barrier_var(&self, value: u64) -> u64 {
        barrier_var(value, self.packet.noise())
    }
}

/// The address of `N` bytes within the packet.
struct PacketView<const N: usize>(usize);

impl<const N: usize> PacketView<N> {
    /// The address of `len` bytes from offset `at`, both constants, if they lie within the `N` bytes.
    #[inline(always)]
    const fn address(&self, at: usize, len: usize) -> Option<usize> {
        if at + len <= N {
            Some(self.0 + at)
        } else {
            None
        }
    }
}

impl<const N: usize> View for PacketView<N> {
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: within the packet.
        self.address(at, 1)
            .map_or(0, |address| unsafe { ptr::read(address as *const u8) })
    }

    #[inline(always)]
    fn half(&self, at: usize) -> u16 {
        // SAFETY: within the packet.
        self.address(at, 2)
            .map_or(0, |address| unsafe { load_half(address) }.swap_bytes())
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        // SAFETY: within the packet.
        self.address(at, 8)
            .map_or(0, |address| unsafe { load_word(address) })
    }
}
