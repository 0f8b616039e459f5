//! The service's heap.

/// Bytes of unused heap that free(3) leaves. By default glibc leaves the more, the more was allocated.
#[cfg(target_env = "gnu")]
const LEFT: libc::c_int = 128 << 10;

/// Has glibc leave no more than [`LEFT`] from now on, in this process and in those that it forks. To be called while the
/// process has one thread.
pub(super) fn bound_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and there is no other thread that allocates: mallopt(3) is not thread-safe.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, LEFT);
    }
}

/// Returns unused heap to the system. Loading parses the kernel's BTF, which takes tens of megabytes for a moment.
pub(super) fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is thread-safe and takes no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
