//! An option or a cookie rewritten in place.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::{
    helpers::{
        bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_load_bytes,
        bpf_xdp_store_bytes,
    },
    programs::{TcContext, XdpContext},
};
use tfo_common::wire::{
    checksum::{self, Change},
    issued::Issued,
    options::{HEADER_LEN, fast_open::Cookie},
    rewrite::{MAX_LEN, OptionBytes, Rewrite},
    syn::Syn,
    tcp::{CHECKSUM, MIN_HEADER_LEN},
};

use crate::kernel::barrier::barrier_var;

/// A frame whose options can be rewritten.
pub(crate) trait WritePacket {
    /// Reads `len` bytes from offset `at` to `to`; `false` on failure.
    ///
    /// # Safety
    ///
    /// `to` has room for `len` bytes.
    unsafe fn load(&self, at: u32, to: *mut c_void, len: u32) -> bool;

    /// Writes the first `len` bytes of `bytes` at offset `at`; `false` on failure.
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool;

    /// Writes a little-endian word at offset `at`; `false` on failure.
    fn store_word(&self, at: u32, word: u64) -> bool;

    /// Updates the checksum of `syn`, at offset `at`.
    fn update_checksum(&self, at: u32, change: Change, syn: &Syn);
}

/// Rewrites the Fast Open option of `syn`, the SYN of this frame. `false` if that is not possible; the frame is unchanged
/// then.
#[inline(always)]
pub(crate) fn rewrite(frame: &impl WritePacket, syn: &Syn, rewrite: Rewrite) -> bool {
    let place = syn.options.place();
    // The verifier does not know the bounds of an option, and has to see both in one register; before Linux 6.8 it learns
    // nothing from `len != 0`.
    let len = barrier_var(place.len.into(), syn.sequence.into());
    if len < HEADER_LEN as u64 || len > MAX_LEN as u64 {
        return false;
    }
    let len = len as u32;
    let tcp = u32::from(syn.layout.tcp);
    let at = tcp + MIN_HEADER_LEN as u32 + u32::from(place.at);
    let mut option = MaybeUninit::uninit();
    let option = clear::<OptionBytes>(&mut option);
    // SAFETY: an option is no longer than that, as was just checked.
    if !unsafe { frame.load(at, option.0.as_mut_ptr().cast(), len) } {
        return false;
    }
    let change = rewrite.apply(option, place);
    if !frame.store(at, option, len) {
        return false;
    }
    // This cannot fail: the header is writable.
    frame.update_checksum(tcp + CHECKSUM as u32, change, syn);
    true
}

/// Replaces the cookie `old` of `syn`, the SYN of this frame, by `new`. `false` if that is not possible; the frame is unchanged
/// then.
#[inline(always)]
pub(crate) fn replace_cookie(
    frame: &impl WritePacket,
    syn: &Syn,
    old: Cookie,
    new: Cookie,
) -> bool {
    let tcp = u32::from(syn.layout.tcp);
    let at = MIN_HEADER_LEN as u32 + u32::from(syn.options.place().cookie());
    if !frame.store_word(tcp + at, new.word()) {
        return false;
    }
    // This cannot fail: the header is writable.
    frame.update_checksum(tcp + CHECKSUM as u32, cookie_change(old, new, at), syn);
    true
}

/// Replaces the cookie of a SYN-ACK that leaves. `false` if that is not possible; the packet is unchanged then.
#[inline(always)]
pub(crate) fn store_cookie(ctx: &TcContext, issued: &Issued, new: Cookie) -> bool {
    let (tcp, at) = (u32::from(issued.tcp), u32::from(issued.at));
    if !ctx.store_word(tcp + at, new.word()) {
        return false;
    }
    let change = cookie_change(issued.cookie, new, at);
    update_skb_checksum(ctx, tcp + CHECKSUM as u32, change);
    true
}

/// The effect of another cookie at offset `at` of the segment.
#[inline(always)]
fn cookie_change(old: Cookie, new: Cookie, at: u32) -> Change {
    let mut change = Change::default();
    change.word(old.word(), new.word(), at % 2 == 1);
    change
}

/// Updates the checksum at offset `at`. The kernel knows whether it is finished.
#[inline(always)]
fn update_skb_checksum(ctx: &TcContext, at: u32, change: Change) {
    // The change is that of a word from 0.
    let change = u64::from(change.sum().to_be());
    // SAFETY: the context is the kernel's own.
    unsafe { bpf_l4_csum_replace(ctx.skb.skb, at, 0, change, 0) };
}

/// Zeroes it with volatile writes of words: LLVM would call `memset`, which works byte by byte, and which libbpf's loader
/// refuses.
#[inline(always)]
pub(super) fn clear<T: Bytes>(bytes: &mut MaybeUninit<T>) -> &mut T {
    let words = bytes.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: one of its words.
        let word = unsafe { words.add(index) };
        // SAFETY: as above.
        unsafe { ptr::write_volatile(word, 0) };
    }
    // SAFETY: all of its words were written, and any bytes are such a value.
    unsafe { bytes.assume_init_mut() }
}

/// Whole words, of any bytes.
pub(super) trait Bytes {}

impl Bytes for OptionBytes {}

impl WritePacket for XdpContext {
    #[inline(always)]
    unsafe fn load(&self, at: u32, to: *mut c_void, len: u32) -> bool {
        // SAFETY: the context is the kernel's own; the caller's for the rest.
        unsafe { bpf_xdp_load_bytes(self.ctx, at, to, len) == 0 }
    }

    #[inline(always)]
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool {
        let bytes = bytes.0.as_ptr().cast_mut().cast();
        // SAFETY: as above.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, bytes, len) == 0 }
    }

    #[inline(always)]
    fn store_word(&self, at: u32, word: u64) -> bool {
        let bytes = ptr::from_ref(&word).cast_mut().cast();
        // SAFETY: as above.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, bytes, size_of::<u64>() as u32) == 0 }
    }

    #[inline(always)]
    fn update_checksum(&self, at: u32, change: Change, syn: &Syn) {
        let mut field = [0; 2];
        // SAFETY: the context is the kernel's own, and the field has 2 bytes.
        if unsafe { bpf_xdp_load_bytes(self.ctx, at, field.as_mut_ptr().cast(), 2) } != 0 {
            return;
        }
        let checksum = u16::from_be_bytes(field);
        // An unfinished checksum (`CHECKSUM_PARTIAL`) is the sum of the pseudo-header; the next device completes it. XDP is
        // not told. A finished one has the same value once in 65,536 times: such a SYN is lost, and sent again.
        let len = u32::from(syn.layout.header_len) + syn.data_len;
        if checksum == checksum::pseudo_header(&syn.addresses, len) {
            return;
        }
        let field = change.apply(checksum).to_be_bytes();
        // SAFETY: as above.
        unsafe { bpf_xdp_store_bytes(self.ctx, at, field.as_ptr().cast_mut().cast(), 2) };
    }
}

impl WritePacket for TcContext {
    #[inline(always)]
    unsafe fn load(&self, at: u32, to: *mut c_void, len: u32) -> bool {
        // SAFETY: the context is the kernel's own; the caller's for the rest.
        unsafe { bpf_skb_load_bytes(self.skb.skb.cast(), at, to, len) == 0 }
    }

    #[inline(always)]
    fn store(&self, at: u32, bytes: &OptionBytes, len: u32) -> bool {
        let bytes = bytes.0.as_ptr().cast();
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(self.skb.skb, at, bytes, len, 0) == 0 }
    }

    #[inline(always)]
    fn store_word(&self, at: u32, word: u64) -> bool {
        let bytes = ptr::from_ref(&word).cast();
        // SAFETY: as above.
        unsafe { bpf_skb_store_bytes(self.skb.skb, at, bytes, size_of::<u64>() as u32, 0) == 0 }
    }

    #[inline(always)]
    fn update_checksum(&self, at: u32, change: Change, _: &Syn) {
        update_skb_checksum(self, at, change);
    }
}
