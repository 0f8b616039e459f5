//! The helper process, which makes a process in a network namespace where the service asks for one.
//!
//! setns(2) takes `CAP_SYS_ADMIN` and moves the calling thread alone, and what the service does in a namespace (links,
//! netlink, sysctls, look-ups of sockets) is done in the namespace of the thread that does it. So nothing could be handed
//! over but a process that is inside already. The helper parses nothing but a path, and takes only those that the
//! configuration named when the service started.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
        recvmsg, send, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
    thread::{CapabilitySet, set_name},
};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{parent::die_with, process as inside};
use crate::{
    config::{Config, ConfigSource},
    datapath,
    kernel::{
        netns::{self, NetnsError, NetnsFile, NetnsId},
        refusal::{of_files, with_limit},
    },
    model::NetnsPattern,
    service::{capabilities, memory},
};

/// The longest wait for an answer: an open(2) and a fork(2).
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a path, at most, and of an answer.
const MAX_MESSAGE: usize = 8192;
/// Sockets that come with a request: the process's end of that to the service, and of that to the helper for listeners.
const MAX_SOCKETS: usize = 2;

/// Why the helper made no process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(in crate::service) enum Refusal {
    /// The file went meanwhile.
    #[error("{0}")]
    Gone(String),
    /// The configuration did not name the path when the service started.
    #[error(
        "network namespace {0}: it was not configured when the service started, which entering takes: restart the service"
    )]
    NotConfigured(String),
    /// The namespace cannot be opened, or no process made.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// The service has no socket for a process in the namespace at `path`.
    pub(super) fn no_socket(path: &Path, error: &io::Error) -> Self {
        Self::Failed(no_process(&path.display().to_string(), error))
    }
}

/// A namespace that the configuration names.
#[derive(Clone, Debug)]
enum Named {
    Exact(PathBuf),
    Pattern(NetnsPattern),
}

/// The paths that the helper opens.
#[derive(Clone, Debug)]
struct Allowed(Vec<Named>);

impl Allowed {
    fn of(config: &Config) -> Self {
        let sections = config.namespaces.iter();
        let named = sections.filter_map(|section| match &section.pattern {
            Some(pattern) => Some(Named::Pattern(pattern.clone())),
            None => section
                .name
                .as_deref()
                .map(|name| Named::Exact(netns::path(name))),
        });
        Self(named.collect())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|named| match named {
            Named::Exact(exact) => exact == path,
            Named::Pattern(pattern) => pattern.matches_path(path),
        })
    }

    /// Returns the capabilities for entering, and those left to the processes inside. Following a
    /// link below `/proc` takes the permission to trace that process.
    fn capabilities(&self) -> CapabilitySet {
        let in_proc = |named: &Named| match named {
            Named::Exact(path) => path.starts_with("/proc"),
            Named::Pattern(pattern) => pattern.directory().starts_with("/proc"),
        };
        let enter = CapabilitySet::SYS_ADMIN | capabilities::KEPT;
        if self.0.iter().any(in_proc) {
            enter | CapabilitySet::SYS_PTRACE
        } else {
            enter
        }
    }
}

/// The helper, from the service's side. It ends with the service.
#[derive(Debug)]
pub struct NetnsHelper(OwnedFd);

impl NetnsHelper {
    /// Starts the helper, with the calling thread's capabilities. `None` if the configuration names no other namespace. To be
    /// called before the process has a second thread.
    ///
    /// # Errors
    ///
    /// socketpair(2) or fork(2) failed.
    pub fn start(source: &ConfigSource, config: &Config) -> io::Result<Option<Self>> {
        let allowed = Allowed::of(config);
        if allowed.0.is_empty() {
            return Ok(None);
        }
        // Once for the service, the helper and all processes that the helper makes.
        memory::bound_unused();
        datapath::prepare();
        memory::release_unused();
        let (ours, its) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, timeout, Some(TIMEOUT))?;
        }
        let service = process::id();
        let (mut ours, mut its) = (Some(ours), Some(its));
        fork(|| {
            ours.take();
            serve(&mut its, &allowed, source, service)
        })?;
        Ok(ours.map(Self))
    }

    /// Has a process made in the namespace at `path`, with these sockets. Gives which namespace it is.
    ///
    /// # Errors
    ///
    /// The helper ended or does not answer.
    pub(super) fn open(
        &self,
        path: &Path,
        sockets: &[BorrowedFd<'_>],
    ) -> io::Result<Result<NetnsId, Refusal>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(sockets));
        let path = path.as_os_str().as_encoded_bytes();
        sendmsg(
            &self.0,
            &[IoSlice::new(path)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        let mut buffer = [0; MAX_MESSAGE];
        let (len, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&buffer[..len])?)
    }

    /// The helper lives.
    pub(super) fn is_alive(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(recv(&self.0, &mut byte, flags), Ok((0, _)))
    }
}

/// Makes a process that does `work` and ends.
fn fork(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the process has more than one thread"));
    }
    // SAFETY: this process has one thread, so no other one can hold a lock that the new process would wait for.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // Its error was told to the service, or there is none any more to tell it to.
            process::exit(work().map_or(1, |()| 0));
        }
        _ => Ok(()),
    }
}

/// The service ends its processes: signals for the whole unit or terminal come to them as well. Children need no wait(2).
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD] {
        // SAFETY: SIG_IGN is no function of this process.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Is the helper, until the service ends. `socket` is there; processes that the helper makes take it out.
fn serve(
    socket: &mut Option<OwnedFd>,
    allowed: &Allowed,
    source: &ConfigSource,
    service: u32,
) -> io::Result<()> {
    ignore_signals();
    set_name(c"tfo-netns")?;
    die_with(service)?;
    capabilities::keep(allowed.capabilities())?;
    let mut buffer = [0; MAX_MESSAGE];
    while let Some(end) = &*socket {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(end, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(());
        }
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let sockets = sockets.flatten().collect();
        let answer = match std::str::from_utf8(&buffer[..received.bytes]) {
            // The kernel leaves out sockets for which there is no descriptor.
            Ok(path) if received.flags.contains(ReturnFlags::CTRUNC) => Err(Refusal::Failed(
                format!("network namespace {path}: {}", of_files()),
            )),
            Ok(path) => open(allowed, path, sockets, source, socket, service),
            Err(error) => Err(Refusal::Failed(error.to_string())),
        };
        if let Some(end) = &*socket {
            send(end, &serde_json::to_vec(&answer)?, SendFlags::NOSIGNAL)?;
        }
    }
    Ok(())
}

/// Makes a process in the namespace at `path`, if the configuration has it.
fn open(
    allowed: &Allowed,
    path: &str,
    sockets: Vec<OwnedFd>,
    source: &ConfigSource,
    helper: &mut Option<OwnedFd>,
    service: u32,
) -> Result<NetnsId, Refusal> {
    if !allowed.has(Path::new(path)) {
        return Err(Refusal::NotConfigured(path.to_owned()));
    }
    let file = NetnsFile::open(path).map_err(|error| match error {
        NetnsError::Missing { .. } => Refusal::Gone(error.to_string()),
        _ => Refusal::Failed(with_limit(error.to_string())),
    })?;
    let failed = |error: io::Error| Refusal::Failed(no_process(path, &error));
    let id = file.id().map_err(failed)?;
    let parent = process::id();
    fork(|| {
        helper.take();
        let ended = inside::run(file, sockets, source, parent, service);
        if let Err(error) = &ended {
            error!("{}", no_process(path, error));
        }
        ended
    })
    .map_err(failed)?;
    Ok(id)
}

fn no_process(path: &str, error: &io::Error) -> String {
    let text = format!("network namespace {path}: no process can be started in it: {error}");
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        with_limit(text)
    } else {
        format!("{text}: allow the service more (TasksMax, MemoryMax)")
    }
}
