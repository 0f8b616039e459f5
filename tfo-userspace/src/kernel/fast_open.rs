//! `TCP_FASTOPEN` of a listener.

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;

/// Sets the length of the Fast Open queue, which turns Fast Open on, or off where it is 0. The kernel takes at most the
/// socket's `net.core.somaxconn`.
///
/// # Errors
///
/// `EINVAL` for a socket that is neither new nor listens.
pub fn set_queue(socket: impl AsFd, queue: u32) -> Result<(), Errno> {
    let queue = queue.cast_signed();
    // SAFETY: the socket is open, and the kernel reads the four bytes of `queue`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const queue).cast(),
            size_of_val(&queue) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        let error = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
