//! The one place that reads packet memory.

use core::ptr;

use aya_ebpf::{
    helpers::{bpf_skb_pull_data, bpf_xdp_get_buff_len},
    programs::{TcContext, XdpContext},
};
use tfo_common::wire::{Frame, Link, View, ethernet};

/// Set by the controller before the program is loaded: not 0 where the interface carries bare packets. Without a
/// section of its own, LLVM takes it for any other constant 0, such as a map's key, and that changes with it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static BARE_PACKETS: u32 = 0;

/// What stands in front of the interface's packets.
#[inline(always)]
fn link() -> Link {
    // Volatile, or the compiler would take the value above for granted. The verifier knows the real
    // one, and drops what is never reached.
    // SAFETY: a live constant.
    match unsafe { ptr::read_volatile(&raw const BARE_PACKETS) } {
        0 => Link::Ethernet,
        _ => Link::None,
    }
}

/// How far the headers of a socket buffer are brought to where they can be read, as TCP itself does a
/// little later: 118 bytes are the most that Ethernet, IPv6 and TCP take without extension headers.
const HEADERS: u32 = 128;

/// What a program is run on: a frame, of which some first part is in memory.
pub(crate) trait Packet {
    /// The address of the frame's first byte.
    fn start(&self) -> usize;

    /// The address behind the last byte that can be read.
    fn end(&self) -> usize;

    /// How many bytes the frame has, in all of its buffers.
    fn whole_len(&self) -> usize;

    /// What stands in front of the packet.
    fn link(&self) -> Link {
        link()
    }

    /// Brings the frame's headers to where they can be read, if they are not there and that can be done.
    fn pull(&self) {}
}

/// Reads a bound of the packet from the context. Volatile, so that it is read anew for every access: what the
/// verifier knows of one read's bounds would otherwise make each way to an option another one, and there are too
/// many.
#[inline(always)]
fn bound(field: &u32) -> usize {
    // SAFETY: a reference.
    unsafe { ptr::read_volatile(field) as usize }
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
    fn link(&self) -> Link {
        // A generic XDP program before may have had the kernel copy the packet: for the copy it forgets how long
        // the Ethernet header is (`skb_pp_cow_data`), and shows what is behind it alone.
        const TYPE: usize = ethernet::HEADER_LEN - 2;
        // SAFETY: the context is the kernel's own.
        let protocol = u16::from_be(unsafe { (*self.skb.skb).protocol } as u16);
        match PacketFrame::new(self).view::<{ ethernet::HEADER_LEN }>(0) {
            Some(header) if header.half(TYPE) != protocol => {
                match (protocol, header.byte(0) >> 4) {
                    (ethernet::IPV4, 4) | (ethernet::IPV6, 6) => Link::None,
                    _ => link(),
                }
            }
            _ => link(),
        }
    }

    #[inline(always)]
    fn pull(&self) {
        let headers = self.len().min(HEADERS);
        if self.end() - self.start() < headers as usize {
            // SAFETY: the context is the kernel's own, and nothing of the packet has been read yet.
            // Where it fails, less can be read.
            let _ = unsafe { bpf_skb_pull_data(self.skb.skb, headers) };
        }
    }
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
        // LLVM would make `start >= data_end` of a check for one byte, from which the verifier learns
        // nothing: an instruction that it cannot see through keeps it from that.
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
    fn opaque(&self, value: u64) -> u64 {
        // The verifier does not know the frame's length.
        forget(value, self.len() as u64)
    }
}

/// `value` itself, of which the verifier then knows nothing any more: see [`Frame::opaque`]. Two exclusive ors
/// with `noise`, of which it knows nothing, change nothing, but leave every bit of the result unknown.
#[inline(always)]
pub(crate) fn forget(value: u64, noise: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: arithmetic on two registers.
        unsafe {
            core::arch::asm!(
                "{value} ^= {noise}",
                "{value} ^= {noise}",
                value = inout(reg) value,
                noise = in(reg) noise,
                options(pure, nomem, nostack),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value ^ noise ^ noise
    }
}

/// The address of `N` bytes that lie within the packet.
struct PacketView<const N: usize>(usize);

impl<const N: usize> PacketView<N> {
    /// The address of `len` bytes from offset `at`. Both are constants, and so is the answer.
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

/// The little-endian half word at `address`, as [`load_word`] reads a word.
///
/// # Safety
///
/// The 2 bytes at `address` are within the packet.
#[inline(always)]
unsafe fn load_half(address: usize) -> u16 {
    #[cfg(all(
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    ))]
    {
        let half: u64;
        // SAFETY: the caller's; both machines read unaligned half words.
        unsafe {
            core::arch::asm!(
                "{half} = *(u16 *)({address} + 0)",
                half = lateout(reg) half,
                address = in(reg) address,
                options(pure, readonly),
            );
        }
        half as u16
    }
    #[cfg(not(all(
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    )))]
    {
        let bytes = address as *const [u8; 2];
        // SAFETY: the caller's; bytes have no alignment.
        u16::from_le_bytes(unsafe { ptr::read(bytes) })
    }
}

/// The little-endian word at `address`, which need not be aligned.
///
/// Written as the instruction, where the machine takes it: LLVM would make eight byte loads of it.
///
/// # Safety
///
/// The 8 bytes at `address` are within the packet.
#[inline(always)]
unsafe fn load_word(address: usize) -> u64 {
    #[cfg(all(
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    ))]
    {
        let word: u64;
        // SAFETY: the caller's; both machines read unaligned words.
        unsafe {
            core::arch::asm!(
                "{word} = *(u64 *)({address} + 0)",
                word = lateout(reg) word,
                address = in(reg) address,
                options(pure, readonly),
            );
        }
        word
    }
    #[cfg(not(all(
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    )))]
    {
        let bytes = address as *const [u8; 8];
        // SAFETY: the caller's; bytes have no alignment.
        u64::from_le_bytes(unsafe { ptr::read(bytes) })
    }
}
