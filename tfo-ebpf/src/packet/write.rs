//! A SYN's option rewritten where it is, and its checksum with it.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    helpers::{
        bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_load_bytes,
        bpf_xdp_store_bytes,
    },
    programs::{TcContext, XdpContext},
};
use tfo_common::{
    syn::Syn,
    wire::{
        checksum::{self, Change},
        options::HEADER,
        rewrite::{MAX_LEN, OptionBytes, Rewrite},
        tcp::{CHECKSUM, MIN_HEADER_LEN},
    },
};

/// A frame that can be changed. Reading and writing say whether they could.
pub(crate) trait Writable {
    /// Reads the first `len` bytes of `bytes` from offset `at`.
    fn load(&self, at: u32, bytes: &mut OptionBytes, len: u32) -> bool;

    /// Writes the first `len` bytes of `bytes` at offset `at`.
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool;

    /// Brings the checksum of `syn`, which is at offset `at`, up to a change.
    fn update_checksum(&self, at: u32, change: Change, syn: &Syn);
}

/// Rewrites the option of `syn`, the SYN of this frame; `false` where that is not possible, and the frame is
/// as it was.
#[inline(always)]
pub(crate) fn apply(frame: &impl Writable, syn: &Syn, rewrite: Rewrite) -> bool {
    let place = syn.layout.option;
    let len = u32::from(place.len);
    // The verifier does not know that every option which counts is that long; before Linux 6.8, `len != 0` does
    // not tell it that there is a byte to read.
    if len < HEADER as u32 || len > MAX_LEN as u32 {
        return false;
    }
    let tcp = u32::from(syn.layout.tcp);
    let at = tcp + MIN_HEADER_LEN as u32 + u32::from(place.at);
    let mut option = MaybeUninit::uninit();
    let option = clear(&mut option);
    if !frame.load(at, option, len) {
        return false;
    }
    let change = rewrite.apply(option, place);
    if !frame.store(at, option, len) {
        return false;
    }
    // Nothing is left that could go wrong: the header can be written to.
    frame.update_checksum(tcp + CHECKSUM as u32, change, syn);
    true
}

/// Makes zeroes of it, word by word, and volatile: LLVM would call `memset`, which goes byte by byte, and which
/// libbpf's loader does not take.
#[inline(always)]
fn clear(option: &mut MaybeUninit<OptionBytes>) -> &mut OptionBytes {
    let words = option.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<OptionBytes>() / size_of::<u64>() {
        // SAFETY: one of its words.
        let word = unsafe { words.add(index) };
        // SAFETY: as above.
        unsafe { ptr::write_volatile(word, 0) };
    }
    // SAFETY: all of its words were written, and any bytes are an option's.
    unsafe { option.assume_init_mut() }
}

impl Writable for XdpContext {
    #[inline(always)]
    fn load(&self, at: u32, bytes: &mut OptionBytes, len: u32) -> bool {
        // SAFETY: the context is the kernel's own, and `len` is no more than there is room for.
        unsafe { bpf_xdp_load_bytes(self.ctx, at, bytes.0.as_mut_ptr().cast(), len) == 0 }
    }

    #[inline(always)]
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool {
        let bytes = bytes.0.as_ptr().cast_mut().cast();
        // SAFETY: as above.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, bytes, len) == 0 }
    }

    #[inline(always)]
    fn update_checksum(&self, at: u32, change: Change, syn: &Syn) {
        let mut field = [0; 2];
        // SAFETY: the context is the kernel's own, and the field has 2 bytes.
        if unsafe { bpf_xdp_load_bytes(self.ctx, at, field.as_mut_ptr().cast(), 2) } != 0 {
            return;
        }
        let checksum = u16::from_be_bytes(field);
        // A sender on this host, or a device that checked it, leaves the sum of the pseudo-header there, and
        // whoever sends it on completes it. XDP is not told; a real checksum is the same once in 65,536 times,
        // and such a SYN is then lost to a wrong one and sent again.
        if checksum == checksum::pseudo_header(syn) {
            return;
        }
        let field = change.apply(checksum).to_be_bytes();
        // SAFETY: as above.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, field.as_ptr().cast_mut().cast(), 2) };
    }
}

impl Writable for TcContext {
    #[inline(always)]
    fn load(&self, at: u32, bytes: &mut OptionBytes, len: u32) -> bool {
        // SAFETY: the context is the kernel's own, and `len` is no more than there is room for.
        unsafe {
            bpf_skb_load_bytes(self.skb.skb.cast(), at, bytes.0.as_mut_ptr().cast(), len) == 0
        }
    }

    #[inline(always)]
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool {
        let bytes = bytes.0.as_ptr().cast();
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(self.skb.skb, at, bytes, len, 0) == 0 }
    }

    #[inline(always)]
    fn update_checksum(&self, at: u32, change: Change, _: &Syn) {
        // The kernel knows whether the checksum is whole. It takes what a word becomes, from 0.
        let change = u64::from(change.sum().to_be());
        // SAFETY: the context is the kernel's own.
        unsafe { bpf_l4_csum_replace(self.skb.skb, at, 0, change, 0) };
    }
}
