//! Network namespaces: entering one, making one, and its cookie.

use std::{
    fs::{self, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde::{Deserialize, Serialize};

use super::refusal;

/// Directory of the namespaces that `ip netns add` makes.
pub const NAMED: &str = "/run/netns";

/// A namespace could not be entered or identified.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// No namespace of this name, or no file at this path.
    #[error("network namespace {name}: there is none at {path}: `ip netns list` shows those that exist", path = path.display())]
    Missing {
        /// As the user gave it.
        name: String,
        /// The file that does not exist.
        path: PathBuf,
    },
    /// The file is no network namespace.
    #[error("network namespace {name}: {path} is no network namespace: give a name that `ip netns list` shows, or a path such as /proc/PID/ns/net", path = path.display())]
    Other {
        /// As the user gave it.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Entering takes a capability.
    #[error("network namespace {name}: not permitted to enter {path}: {remedy}", path = path.display())]
    Denied {
        /// As the user gave it.
        name: String,
        /// The file.
        path: PathBuf,
        /// The cause, as far as it shows, and the remedy.
        remedy: &'static str,
    },
    /// Exists, but cannot be entered.
    #[error("network namespace {name}: cannot enter {path}: {source}", path = path.display())]
    Enter {
        /// As the user gave it.
        name: String,
        /// The file that was opened.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The calling thread's namespace cannot be identified.
    #[error("cannot identify the network namespace (SO_NETNS_COOKIE, Linux 5.14): {0}")]
    Cookie(io::Error),
}

/// The file of a network namespace, and by it the namespace, which lives as long.
#[derive(Debug)]
pub struct NetnsFile {
    file: fs::File,
    name: String,
    path: PathBuf,
}

/// Tells network namespaces that exist at the same time from each other. A later one may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Returns the id of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// procfs is not mounted at `/proc`.
    pub fn current() -> io::Result<Self> {
        Ok(Self::of(&fs::metadata("/proc/thread-self/ns/net")?))
    }

    /// Returns the id of the namespace whose file is at `path`; `None` if the file is no namespace:
    /// its device is not that of `self`. A namespace of another kind is taken for a network
    /// namespace: only opening it tells. Opens nothing, and needs no capability, except below
    /// `/proc`.
    ///
    /// # Errors
    ///
    /// The errors of stat(2).
    pub fn at(self, path: &Path) -> io::Result<Option<Self>> {
        let id = Self::of(&fs::metadata(path)?);
        // All namespaces are files of one file system.
        Ok((id.device == self.device).then_some(id))
    }
}

/// The file of a namespace, by its `ip netns` name or by a path.
pub fn path(name: &str) -> PathBuf {
    if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new(NAMED).join(name)
    }
}

impl NetnsFile {
    /// Opens a namespace, by its `ip netns` name or by the path of a file (`/proc/PID/ns/net`).
    ///
    /// # Errors
    ///
    /// [`NetnsError`] where there is none, or it cannot be opened.
    pub fn open(name: &str) -> Result<Self, NetnsError> {
        let path = path(name);
        let mut options = OpenOptions::new();
        // Without it, open(2) of a FIFO waits for a writer.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options
            .open(&path)
            .map_err(|error| NetnsError::new(name, &path, error))?;
        // SAFETY: the file is open, and this request has no argument.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        let name = name.to_owned();
        if kind != libc::CLONE_NEWNET {
            return Err(NetnsError::Other { name, path });
        }
        Ok(Self { file, name, path })
    }

    /// Returns the id of the namespace.
    ///
    /// # Errors
    ///
    /// The errors of fstat(2).
    pub fn id(&self) -> io::Result<NetnsId> {
        Ok(NetnsId::of(&self.file.metadata()?))
    }

    /// Moves the calling thread into the namespace.
    ///
    /// # Errors
    ///
    /// [`NetnsError`] where that is refused.
    pub fn enter(&self) -> Result<(), NetnsError> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| NetnsError::new(&self.name, &self.path, error.into()))
    }
}

impl NetnsError {
    pub(crate) fn new(name: &str, path: &Path, source: io::Error) -> Self {
        let (name, path) = (name.to_owned(), path.to_owned());
        match source.kind() {
            // A component of the path may be a file.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { name, path },
            io::ErrorKind::PermissionDenied => Self::Denied {
                name,
                path,
                // Not when it is shown: the thread may have dropped its capabilities by then.
                remedy: refusal::of_setns(),
            },
            _ => Self::Enter { name, path, source },
        }
    }
}

/// Moves the calling thread into a namespace, by its `ip netns` name or by the path of a file
/// (`/proc/PID/ns/net`).
///
/// # Errors
///
/// [`NetnsError`] where there is none, or it cannot be entered.
pub fn enter(name: &str) -> Result<(), NetnsError> {
    NetnsFile::open(name)?.enter()
}

/// The calling thread's namespace is that of process 1; `None` where this process may not know.
pub fn is_that_of_init() -> Option<bool> {
    let of = |process| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    Some(of("1")? == of("thread-self")?)
}

/// Returns the `ip netns` name of the calling thread's namespace, where it has one and is not that of process 1.
pub fn name() -> Option<String> {
    if is_that_of_init() == Some(true) {
        return None;
    }
    let own = NetnsId::current().ok()?;
    let is_own = |path: &Path| matches!(own.at(path), Ok(Some(id)) if id == own);
    let mut files = fs::read_dir(NAMED).ok()?.flatten();
    let file = files.find(|file| is_own(&file.path()))?;
    file.file_name().into_string().ok()
}

/// `SO_NETNS_COOKIE` of the calling thread's namespace: unique until the next boot.
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

/// A network namespace without a name. The kernel removes it with the last thread and descriptor that hold it, so it does not
/// outlive its process, however that ends.
#[derive(Debug)]
pub struct UnnamedNetns(fs::File);

impl UnnamedNetns {
    /// Makes one; the calling thread stays where it is.
    ///
    /// # Errors
    ///
    /// Those of unshare(2).
    pub fn create() -> io::Result<Self> {
        let made = in_a_thread(|| {
            // SAFETY: the thread shares its descriptors as before.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            fs::File::open("/proc/thread-self/ns/net")
        });
        made.map(Self)
    }

    /// Moves the calling thread into it.
    ///
    /// # Errors
    ///
    /// Those of setns(2).
    pub fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Runs `work` in a thread inside, and waits for it.
    ///
    /// # Errors
    ///
    /// Those of setns(2) and of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_a_thread(|| {
            self.enter()?;
            work()
        })
    }
}

impl AsFd for UnnamedNetns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
