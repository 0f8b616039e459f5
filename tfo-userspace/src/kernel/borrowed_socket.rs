//! A listening socket of another process, borrowed by `pidfd_getfd(2)`, and its `TCP_FASTOPEN`.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{fast_open, holders::Holder};

/// Why a socket could not be borrowed.
#[derive(Debug)]
pub enum BorrowError {
    /// The process ended, or closed the descriptor.
    Gone,
    /// The kernel refuses it.
    Refused(io::Error),
}

/// A listening TCP socket that another process holds, too. Its options are those of the socket; the process notices
/// nothing.
#[derive(Debug)]
pub struct BorrowedSocket(OwnedFd);

impl BorrowedSocket {
    /// Borrows the holder's descriptor, if it still is the socket whose `SO_COOKIE` is `cookie`.
    ///
    /// # Errors
    ///
    /// [`BorrowError`].
    pub fn of(holder: &Holder, cookie: u64) -> Result<Self, BorrowError> {
        let pid = Pid::from_raw(holder.pid).ok_or(BorrowError::Gone)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(refusal)?;
        let socket = pidfd_getfd(process, holder.descriptor, PidfdGetfdFlags::empty());
        let socket = Self(socket.map_err(refusal)?);
        let is_mptcp = socket.protocol() == Ok(libc::IPPROTO_MPTCP);
        // A socket of MPTCP and its listener have cookies of their own.
        if is_mptcp || socket.cookie() == Ok(cookie) {
            Ok(socket)
        } else {
            Err(BorrowError::Gone)
        }
    }

    /// `IPPROTO_TCP` or `IPPROTO_MPTCP`.
    ///
    /// # Errors
    ///
    /// It is no socket any more.
    pub fn protocol(&self) -> Result<i32, Errno> {
        self.option(libc::SOL_SOCKET, libc::SO_PROTOCOL)
    }

    /// It listens.
    ///
    /// # Errors
    ///
    /// As [`Self::protocol`].
    pub fn listens(&self) -> Result<bool, Errno> {
        let listens: i32 = self.option(libc::SOL_SOCKET, libc::SO_ACCEPTCONN)?;
        Ok(listens != 0)
    }

    /// `TCP_FASTOPEN_NO_COOKIE` is set.
    ///
    /// # Errors
    ///
    /// As [`Self::protocol`].
    pub fn needs_no_cookie(&self) -> Result<bool, Errno> {
        let set: i32 = self.option(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_NO_COOKIE)?;
        Ok(set != 0)
    }

    /// `TCP_FASTOPEN`: most pending Fast Open connections.
    ///
    /// # Errors
    ///
    /// As [`Self::protocol`].
    pub fn queue(&self) -> Result<u32, Errno> {
        let queue: i32 = self.option(libc::IPPROTO_TCP, libc::TCP_FASTOPEN)?;
        Ok(queue.cast_unsigned())
    }

    /// Sets `TCP_FASTOPEN`. The kernel takes at most the socket's `net.core.somaxconn`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a socket that does not listen.
    pub fn set_queue(&self, queue: u32) -> Result<(), Errno> {
        fast_open::set_queue(&self.0, queue)
    }

    fn cookie(&self) -> Result<u64, Errno> {
        self.option(libc::SOL_SOCKET, libc::SO_COOKIE)
    }

    fn option<T: Default>(&self, level: i32, name: i32) -> Result<T, Errno> {
        let mut value = T::default();
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the socket is open, and the kernel writes at most `length` bytes to `value`, an integer.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok(value) } else { Err(last()) }
    }
}

fn last() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn refusal(error: Errno) -> BorrowError {
    match error {
        Errno::SRCH | Errno::BADF => BorrowError::Gone,
        error => BorrowError::Refused(error.into()),
    }
}

/// Cause and remedy where the kernel refuses `pidfd_getfd(2)`, or does not let this process see another's descriptors.
pub fn refused_access(error: &io::Error) -> String {
    let errno = Errno::from_io_error(error);
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match (errno, scope.trim()) {
        (Some(Errno::NOSYS), _) => {
            "the kernel has no pidfd_getfd(2), or a seccomp filter hides it: it needs Linux 5.6, and a profile that allows it"
                .to_owned()
        }
        (Some(Errno::PERM), "3") => {
            "kernel.yama.ptrace_scope = 3 forbids it to everybody until the next boot: have the application set TCP_FASTOPEN"
                .to_owned()
        }
        (Some(Errno::PERM), _) => {
            "that takes CAP_SYS_PTRACE in the process's user namespace: run tfo as root there (docker: --cap-add SYS_PTRACE; in the unit also SystemCallFilter=pidfd_getfd)"
                .to_owned()
        }
        _ => format!("pidfd_getfd(2) failed: {error}"),
    }
}
