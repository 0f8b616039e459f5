//! The service's own memory.

/// Gives back to the system what loading took: the kernel's types alone are tens of megabytes for a moment,
/// which the allocator would keep.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
