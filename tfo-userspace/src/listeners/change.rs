//! Changes `TCP_FASTOPEN` of listeners, by way of the processes that hold them.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{
        borrowed_socket::{BorrowError, BorrowedSocket, refused_access},
        holders::{self, Holder, Holders},
        link,
        sock_diag::{self, DiagListener},
    },
    model::listener_name,
};

/// A listener to change. Also what the service asks its helper for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// The device to which it is bound.
    pub device: Option<String>,
    /// The number of its inode.
    pub inode: u32,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// `TCP_FASTOPEN` as it is to be.
    pub queue: u32,
    /// Only if a process of this name holds it.
    pub process: Option<String>,
}

/// The result for a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The listener.
    pub target: Target,
    /// The process by which it was reached, or one that holds it.
    pub process: Option<String>,
    /// The id of that process.
    pub pid: Option<i32>,
    /// `TCP_FASTOPEN` before and after, or why it is as it was.
    pub result: Result<(u32, u32), Refusal>,
}

/// Why a listener was left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Refusal {
    /// It is one of MPTCP.
    Mptcp,
    /// It takes data without a cookie.
    NoCookie,
    /// No process whose descriptors can be read holds it.
    NoHolder {
        /// Processes whose descriptors cannot be read.
        closed: usize,
    },
    /// Processes hold it, but none of the name that was asked for.
    OtherProcess {
        /// The name of one.
        holder: String,
    },
    /// It was closed, or its process ended, meanwhile.
    Gone,
    /// The kernel refuses it.
    Refused {
        /// Cause and remedy.
        cause: String,
    },
}

/// Cause and remedy.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mptcp => f.write_str(
                "it is a listener of MPTCP, whose Fast Open the application has to set: configure it to listen with TCP, or to set TCP_FASTOPEN",
            ),
            Self::NoCookie => f.write_str(
                "it takes data without a cookie, also from a spoofed address: configure the application not to set TCP_FASTOPEN_NO_COOKIE",
            ),
            Self::NoHolder { closed: 0 } => f.write_str(
                "no process that /proc shows holds it: it is the kernel's own (NFS), or of another PID namespace: run tfo in the host's",
            ),
            Self::NoHolder { closed } => write!(
                f,
                "its process is not among those whose descriptors can be read, and {closed} cannot: that takes CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: run tfo as root (its unit needs the drop-in of docs/enable.md)"
            ),
            Self::OtherProcess { holder } => {
                write!(f, "it is held by {holder}, not by the process asked for")
            }
            Self::Gone => {
                f.write_str("it was closed meanwhile: see `tfo listeners`, and try again")
            }
            Self::Refused { cause } => f.write_str(cause),
        }
    }
}

/// Listeners could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// `sock_diag(7)` failed.
    #[error(
        "cannot list listeners by sock_diag(7): {0}: it needs CONFIG_INET_TCP_DIAG (modprobe tcp_diag)"
    )]
    List(io::Error),
    /// `/proc` failed.
    #[error(
        "cannot find the processes of the listeners: /proc: {0}: mount it (`mount -t proc proc /proc`)"
    )]
    Processes(io::Error),
}

impl Target {
    /// Address, device and port, as ss(8) writes them.
    pub fn name(&self) -> String {
        listener_name(self.address, self.device.as_ref())
    }
}

/// The listeners of the calling thread's network namespace on the ports that `wanted` has a queue for, and the name of the
/// process that is to hold them.
///
/// # Errors
///
/// [`ChangeError::List`].
pub fn on_port(
    wanted: &impl Fn(u16) -> Option<(u32, Option<String>)>,
) -> Result<Vec<Target>, ChangeError> {
    let listed = sock_diag::listeners().map_err(ChangeError::List)?;
    let targets = listed.into_iter().filter_map(|listener| {
        let (queue, process) = wanted(listener.address.port())?;
        Some(target(&listener, queue, process))
    });
    Ok(targets.collect())
}

fn target(listener: &DiagListener, queue: u32, process: Option<String>) -> Target {
    let device = || link::name_of(listener.device).unwrap_or(format!("if{}", listener.device));
    Target {
        address: listener.address,
        device: (listener.device != 0).then(device),
        inode: listener.inode,
        cookie: listener.cookie,
        queue,
        process,
    }
}

/// Sets `TCP_FASTOPEN` of each target. One that has it already counts as changed, from and to the same.
///
/// # Errors
///
/// [`ChangeError::Processes`].
pub fn change(targets: Vec<Target>) -> Result<Vec<Change>, ChangeError> {
    let inodes = targets.iter().map(|target| target.inode);
    // No file has the inode 0.
    let inodes = inodes.filter(|inode| *inode != 0).collect();
    let Holders { by_inode, closed } = holders::of(&inodes).map_err(ChangeError::Processes)?;
    let one = |target| change_one(target, &by_inode, closed);
    Ok(targets.into_iter().map(one).collect())
}

fn change_one(target: Target, by_inode: &BTreeMap<u32, Vec<Holder>>, closed: usize) -> Change {
    let held = by_inode.get(&target.inode).map_or(&[][..], Vec::as_slice);
    let asked = |holder: &&Holder| {
        let name = target.process.as_ref();
        name.is_none_or(|name| *name == holder.process)
    };
    let mut reached = held.first();
    let mut result = match held.first() {
        None => Err(Refusal::NoHolder { closed }),
        Some(holder) => Err(Refusal::OtherProcess {
            holder: holder.process.clone(),
        }),
    };
    // The socket is the same by each of its processes, of which the first may end.
    for holder in held.iter().filter(asked) {
        reached = Some(holder);
        result = match BorrowedSocket::of(holder, target.cookie) {
            Ok(socket) => set(&socket, target.queue),
            Err(BorrowError::Gone) => Err(Refusal::Gone),
            Err(BorrowError::Refused(error)) => Err(Refusal::Refused {
                cause: refused_access(&error),
            }),
        };
        if result.is_ok() {
            break;
        }
    }
    Change {
        process: reached.map(|holder| holder.process.clone()),
        pid: reached.map(|holder| holder.pid),
        target,
        result,
    }
}

fn set(socket: &BorrowedSocket, queue: u32) -> Result<(u32, u32), Refusal> {
    let set = || {
        if socket.protocol()? == libc::IPPROTO_MPTCP {
            return Ok(Err(Refusal::Mptcp));
        }
        if !socket.listens()? {
            return Ok(Err(Refusal::Gone));
        }
        if queue != 0 && socket.needs_no_cookie()? {
            return Ok(Err(Refusal::NoCookie));
        }
        let before = socket.queue()?;
        if before != queue {
            socket.set_queue(queue)?;
        }
        Ok(Ok((before, socket.queue()?)))
    };
    set().unwrap_or_else(|error: rustix::io::Errno| {
        Err(Refusal::Refused {
            cause: format!(
                "setsockopt(TCP_FASTOPEN) failed: {}",
                io::Error::from(error)
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn targets(port: u16, queue: u32, process: Option<&str>) -> Vec<Target> {
        let process = process.map(str::to_owned);
        on_port(&|each| (each == port).then(|| (queue, process.clone()))).unwrap()
    }

    #[test]
    fn a_listener_is_changed_and_changed_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for (queue, expected) in [(7, (0, 7)), (7, (7, 7)), (9, (7, 9)), (0, (9, 0))] {
            let changed = change(targets(port, queue, None)).unwrap();
            let [changed] = &changed[..] else {
                panic!("{changed:?}");
            };
            assert_eq!(changed.result, Ok(expected));
            assert_eq!(changed.pid, Some(std::process::id().cast_signed()));
        }
    }

    #[test]
    fn a_listener_of_another_process_or_of_none_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let changed = change(targets(port, 5, Some("somebody"))).unwrap();
        assert!(matches!(
            changed[0].result,
            Err(Refusal::OtherProcess { .. })
        ));
        let found = targets(port, 5, None);
        drop(listener);
        let changed = change(found).unwrap();
        assert!(matches!(changed[0].result, Err(Refusal::NoHolder { .. })));
    }

    /// A descriptor that was closed, and belongs to another listener by now.
    #[test]
    fn another_socket_at_the_same_descriptor_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut found = targets(port, 5, None);
        found[0].cookie ^= 1;
        let changed = change(found).unwrap();
        assert_eq!(changed[0].result, Err(Refusal::Gone));
        let changed = change(targets(port, 0, None)).unwrap();
        assert_eq!(changed[0].result, Ok((0, 0)));
    }
}
