//! A number in a map that several CPUs change.
//!
//! Rust and LLVM offer no atomics for the BPF target, though the machine has the instructions
//! (Linux 5.12): they are written out here. On other targets this only has to compile.

use core::{cell::UnsafeCell, ptr};

use tfo_common::policy::Rate;

/// A u64 in a map's value.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<u64>);

// SAFETY: every access is one machine instruction on an aligned u64.
unsafe impl Sync for Shared {}

impl Shared {
    /// A new one.
    #[inline(always)]
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: a live, aligned u64; a volatile read of it is a single load.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    /// Replaces the value.
    #[inline(always)]
    pub(crate) fn store(&self, value: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0.get(), value) };
    }

    /// Takes one from the bucket whose state it is, and from which other CPUs take, too; `false` where nothing
    /// is left.
    #[inline(always)]
    pub(crate) fn take(&self, rate: Rate, now: u64) -> bool {
        let state = self.load();
        let Some(next) = rate.take(state, now) else {
            return false;
        };
        // Where another CPU came in between, it took this one's.
        let before = self.compare_exchange(state, next);
        before == state || rate.take(before, now).is_some()
    }

    /// Adds `amount` and gives the value before.
    #[inline(always)]
    pub(crate) fn fetch_add(&self, amount: u64) -> u64 {
        let mut value = amount;
        #[cfg(not(target_arch = "bpf"))]
        {
            value += self.load();
        }
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer is to a live, aligned u64.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_add((u64 *)({at} + 0), {value})",
                value = inout(reg) value,
                at = in(reg) self.0.get(),
            );
        }
        value
    }

    /// Puts `new` where `current` stands, and gives the value before.
    #[inline(always)]
    pub(crate) fn compare_exchange(&self, current: u64, new: u64) -> u64 {
        let mut value = current;
        #[cfg(not(target_arch = "bpf"))]
        {
            value += self.load() + new;
        }
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer is to a live, aligned u64. The instruction compares with r0 and leaves
        // the value before in it.
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({at} + 0, r0, {new})",
                at = in(reg) self.0.get(),
                new = in(reg) new,
                inout("r0") value,
            );
        }
        value
    }
}
