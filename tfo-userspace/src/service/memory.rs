//! The service's heap.

/// Bytes of unused heap that free(3) leaves. By default glibc leaves the more, the more was allocated.
#[cfg(target_env = "gnu")]
const LEFT: libc::c_int = 128 << 10;

/// Returns unused heap to the system, and has glibc do so from now on. Loading parses the kernel's BTF, which takes tens of
/// megabytes for a moment that glibc would keep.
pub(super) fn release_unused() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt(3) is thread-safe and takes no pointer.
        unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, LEFT) };
        // SAFETY: malloc_trim(3) is thread-safe and takes no pointer.
        unsafe { libc::malloc_trim(0) };
    }
}
