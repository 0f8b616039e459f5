//! The service's heap.

/// Returns unused heap to the system, and has glibc do so from now on. Loading parses the kernel's BTF, which takes tens of
/// megabytes for a moment that glibc would keep.
pub(super) fn release_unused() {
    /// Bytes of unused heap that free(3) leaves. By default it takes more the more was allocated.
    #[cfg(target_env = "gnu")]
    const KEPT: libc::c_int = 128 << 10;
    #[cfg(target_env = "gnu")]
    // SAFETY: both are thread-safe and take no pointer.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::malloc_trim(0);
    }
}
