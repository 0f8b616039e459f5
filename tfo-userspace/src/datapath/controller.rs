//! One controller for a network namespace.
//!
//! A controller changes the keys of the whole namespace, so two of them would rotate twice as often as
//! either says, and one's interfaces are the other's. The lock is flock(2) on a file that also holds the
//! controller's process id: the kernel lets go of it when the process dies, however it dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::Namespace;

/// Where the files are. Not among the pins: a BPF file system holds nothing else.
const DIRECTORY: &str = "/run/tfo";
/// How often a lock is tried, or an id looked for, and how long it takes until the next time. Who asks
/// whether there is a controller holds the lock for an instant, too.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Why a controller may not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is one already.
    #[error(
        "{interfaces}: another controller (process {pid}) runs in this network namespace, and keys rotate for all of it: end it first, or give it these interfaces",
        pid = pid.map_or_else(|| "id unknown".to_owned(), |pid| pid.to_string())
    )]
    Taken {
        /// Its process id; `None` where it has not said it yet.
        pid: Option<u32>,
        /// The interfaces that were asked for.
        interfaces: String,
    },
    /// The lock cannot be had at all.
    #[error(
        "{path}: {source}: a controller keeps the lock there that holds off a second one: make {DIRECTORY} a directory that it may write to",
        path = path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
}

/// Keeps other controllers from the namespace while it lives.
#[derive(Debug)]
pub struct Control {
    /// Locked.
    _file: File,
    path: PathBuf,
}

impl Control {
    /// Takes the namespace for this process; `interfaces` are told to whoever is refused.
    ///
    /// # Errors
    ///
    /// [`ControlError::Taken`], or where the lock's file cannot be written.
    pub fn take(namespace: &Namespace, interfaces: &[String]) -> Result<Self, ControlError> {
        let path = path(namespace.cookie());
        let lock = || {
            fs::create_dir_all(DIRECTORY)?;
            lock(&path)
        };
        match lock() {
            Ok(Some(file)) => Ok(Self { _file: file, path }),
            Ok(None) => Err(ControlError::Taken {
                pid: wait_for_pid(&path),
                interfaces: interfaces.join(", "),
            }),
            Err(source) => Err(ControlError::Io { path, source }),
        }
    }

    /// The process id of the namespace's controller; `None` where there is none, or it is not known.
    pub fn of(namespace: &Namespace) -> Option<u32> {
        let path = path(namespace.cookie());
        is_held(&path).then(|| wait_for_pid(&path)).flatten()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // While it is locked: whoever waits for it finds that it is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a controller runs in the namespace of that cookie, as far as this process may know.
pub(super) fn is_controlled(cookie: u64) -> bool {
    is_held(&path(cookie))
}

fn path(cookie: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("net{cookie}.lock"))
}

/// Locks the file and writes this process's id to it; `None` where another has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..TRIES {
        // Closed to others, for whoever may open it may lock it.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
            // Its owner removed it since it was opened.
            Ok(()) if file.metadata()?.nlink() == 0 => {}
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

fn is_held(path: &Path) -> bool {
    // A shared lock that is let go of at once: two who ask do not hold up each other.
    File::open(path).is_ok_and(|file| {
        let locked = flock(file.as_fd(), FlockOperation::NonBlockingLockShared);
        locked == Err(Errno::WOULDBLOCK)
    })
}

/// The id in the file. Its owner writes it just after it has locked the file.
fn wait_for_pid(path: &Path) -> Option<u32> {
    (0..TRIES).find_map(|_| {
        let text = fs::read_to_string(path).ok()?;
        let pid = text.trim().parse().ok();
        if pid.is_none() {
            thread::sleep(PAUSE);
        }
        pid
    })
}
