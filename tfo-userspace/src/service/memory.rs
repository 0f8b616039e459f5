//! The service's heap.

/// Returns unused heap to the system. Loading parses the kernel's BTF, which takes tens of megabytes for a moment that
/// glibc would keep.
pub(super) fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is thread-safe and takes no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
