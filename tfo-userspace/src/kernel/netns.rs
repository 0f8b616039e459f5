//! Network namespaces: entering one, and telling them apart.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _},
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns add` keeps the names.
const NAMED: &str = "/run/netns";

/// Why a namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is none of that name, or no file at that path.
    #[error("network namespace {name}: there is none at {path}: `ip netns list` shows those that exist", path = path.display())]
    Missing {
        /// What the user called it.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// It is there, but cannot be entered.
    #[error("network namespace {name}: cannot enter {path}: {source}", path = path.display())]
    Enter {
        /// What the user called it.
        name: String,
        /// The file that was opened.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The current one cannot be told from others.
    #[error("cannot identify the network namespace (SO_NETNS_COOKIE, Linux 5.14): {0}")]
    Cookie(io::Error),
}

/// Moves the calling thread into a namespace: one of `ip netns`, by name, or any, by the path of a
/// file (`/proc/PID/ns/net`).
///
/// # Errors
///
/// [`NetnsError`] where it does not exist or may not be entered.
pub fn enter(name: &str) -> Result<(), NetnsError> {
    let path = if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NAMED).join(name)
    };
    let enter = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => NetnsError::Missing {
            name: name.to_owned(),
            path: path.clone(),
        },
        _ => NetnsError::Enter {
            name: name.to_owned(),
            path: path.clone(),
            source,
        },
    };
    let file = File::open(&path).map_err(enter)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| enter(error.into()))
}

/// A number that the calling thread's namespace has, and no other since the machine started.
///
/// # Errors
///
/// [`NetnsError::Cookie`] before Linux 5.14.
pub fn cookie() -> Result<u64, NetnsError> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))
        .map_err(NetnsError::Cookie)?;
    let mut cookie = 0_u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(NetnsError::Cookie(io::Error::last_os_error()))
    }
}
