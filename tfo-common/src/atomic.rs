//! A 64-bit word in a map that several CPUs change at once.
//!
//! Rust has no atomics for the BPF target, though the machine has the instructions (Linux 5.12): they are written
//! out here. On the host the same operations are [`core::sync::atomic::AtomicU64`]'s, so that decisions which
//! depend on them are tested there.

use core::cell::UnsafeCell;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A u64 whose every access is atomic.
#[repr(transparent)]
#[derive(Default)]
pub struct AtomicWord(UnsafeCell<u64>);

// SAFETY: every access is one atomic instruction on an aligned u64.
unsafe impl Sync for AtomicWord {}

impl AtomicWord {
    /// A word that holds `value`.
    #[inline(always)]
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[cfg(not(target_arch = "bpf"))]
    fn host(&self) -> &AtomicU64 {
        // SAFETY: a live, aligned u64 that is accessed in no other way.
        unsafe { AtomicU64::from_ptr(self.0.get()) }
    }

    /// The value.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        #[cfg(target_arch = "bpf")]
        {
            // SAFETY: a live, aligned u64; a volatile read of it is a single load.
            unsafe { core::ptr::read_volatile(self.0.get()) }
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            self.host().load(SeqCst)
        }
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        #[cfg(target_arch = "bpf")]
        {
            // SAFETY: a live, aligned u64; a volatile write to it is a single store.
            unsafe { core::ptr::write_volatile(self.0.get(), value) };
        }
        #[cfg(not(target_arch = "bpf"))]
        self.host().store(value, SeqCst);
    }

    /// Adds `amount`, wrapping. Returns the value before.
    #[inline(always)]
    pub fn fetch_add(&self, amount: u64) -> u64 {
        #[cfg(target_arch = "bpf")]
        {
            let mut value = amount;
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
        #[cfg(not(target_arch = "bpf"))]
        {
            self.host().fetch_add(amount, SeqCst)
        }
    }

    /// Sets `bits`. Returns the value before.
    #[inline(always)]
    pub fn fetch_or(&self, bits: u64) -> u64 {
        #[cfg(target_arch = "bpf")]
        {
            let mut value = bits;
            // SAFETY: the pointer is to a live, aligned u64.
            unsafe {
                core::arch::asm!(
                    "{value} = atomic_fetch_or((u64 *)({at} + 0), {value})",
                    value = inout(reg) value,
                    at = in(reg) self.0.get(),
                );
            }
            value
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            self.host().fetch_or(bits, SeqCst)
        }
    }

    /// Writes `new` if the value is `current`. Returns the value before.
    #[inline(always)]
    pub fn compare_exchange(&self, current: u64, new: u64) -> u64 {
        #[cfg(target_arch = "bpf")]
        {
            let mut value = current;
            // SAFETY: the pointer is to a live, aligned u64. The instruction compares with r0 and leaves the value
            // before in it.
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
        #[cfg(not(target_arch = "bpf"))]
        {
            let (Ok(before) | Err(before)) =
                self.host().compare_exchange(current, new, SeqCst, SeqCst);
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_addition_is_lost_among_threads() {
        let word = AtomicWord::new(7);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = word.fetch_add(1)));
            }
        });
        assert_eq!(word.load(), 4007);
    }

    #[test]
    fn an_exchange_takes_place_at_the_expected_value_only() {
        let word = AtomicWord::new(1);
        assert_eq!((word.compare_exchange(2, 3), word.load()), (1, 1));
        assert_eq!((word.compare_exchange(1, 3), word.load()), (1, 3));
        word.store(9);
        assert_eq!(word.load(), 9);
        assert_eq!((word.fetch_or(6), word.load()), (9, 15));
    }
}
