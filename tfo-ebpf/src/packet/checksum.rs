//! The TCP checksum of a short segment, before something is promised to its sender.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, helpers::bpf_csum_diff, macros::btf_map};
use tfo_common::wire::{
    addresses::Addresses,
    checksum,
    tcp::{CHECKSUM, MIN_HEADER_LEN},
};

use super::write::WritePacket;
use crate::kernel::barrier::barrier_var;

/// Mask of the bytes behind the shortest header in a segment that is summed: any header, or a usual one with some data.
const REST_MASK: u32 = 0x3f;
const LEN: u32 = MIN_HEADER_LEN as u32 + REST_MASK + 1;
const WORDS: usize = LEN as usize / 4;

/// A segment, padded with zeroes, which change no sum.
#[btf_map]
static SEGMENT: PerCpuArray<[u32; WORDS], 1> = PerCpuArray::new();

/// `false` if the checksum of the TCP segment of `len` bytes at offset `at` is wrong, as far as the segment is short. An
/// unfinished one (`CHECKSUM_PARTIAL`), which the next device would complete, is right.
#[inline(always)]
pub(crate) fn is_right(
    packet: &impl WritePacket,
    at: u32,
    len: u32,
    addresses: &Addresses,
) -> bool {
    let rest = len.wrapping_sub(MIN_HEADER_LEN as u32);
    if rest > REST_MASK {
        return true;
    }
    // The verifier has to see the bounds.
    let len = MIN_HEADER_LEN as u32 + (barrier_var(rest.into(), len.into()) as u32 & REST_MASK);
    let Some(words) = SEGMENT.get_ptr_mut(0) else {
        return true;
    };
    let words = words.cast::<u32>();
    for index in 0..WORDS {
        // SAFETY: one of the value's words, this CPU's own. Volatile, or LLVM would call `memset`.
        unsafe { ptr::write_volatile(words.wrapping_add(index), 0) };
    }
    // SAFETY: the value has room for the longest segment.
    if !unsafe { packet.load(at, words.cast(), len) } {
        return true;
    }
    // SAFETY: the value has that many bytes.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, words, LEN, 0) };
    // SAFETY: one of the value's words: the field is its first half.
    let field = unsafe { ptr::read_volatile(words.wrapping_add(CHECKSUM / 4)) } as u16;
    let pseudo = checksum::pseudo_header(addresses, len);
    let sum = u32::from(u16::from_be(checksum::fold(sum.cast_unsigned() as u32)));
    u16::from_be(field) == pseudo || checksum::fold(sum + u32::from(pseudo)) == u16::MAX
}
