//! The lock that a controller (`tfo run`) holds on its network namespace.
//!
//! Keys rotate for the whole namespace, so two controllers would rotate twice as often as either is told to. The
//! lock is flock(2) on a file with the controller's process id: the kernel releases it when the process ends.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::current::Namespace;
use crate::kernel::refusal;

/// Directory of the lock files. A BPF file system takes no ordinary files.
const DIRECTORY: &str = "/run/tfo";
/// Tries to take the lock or to read the process id, and the time between them. [`ControllerLock::of`] also holds
/// the lock, for an instant.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A controller may not start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Another controller runs.
    #[error(
        "{interfaces}: another controller (process {pid}) runs in this network namespace, and keys rotate for all of it: end it first, or give it these interfaces",
        pid = pid.map_or_else(|| "id unknown".to_owned(), |pid| pid.to_string())
    )]
    Taken {
        /// The other's process id; `None` where it has not written it yet.
        pid: Option<u32>,
        /// The interfaces that this controller was to attach.
        interfaces: String,
    },
    /// The lock file cannot be made, locked or written.
    #[error("{path}: {failure}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        failure: LockFailure,
    },
}

/// What failed of a lock file.
#[derive(Debug, thiserror::Error)]
pub enum LockFailure {
    /// The file cannot be opened or written.
    #[error("{0}: the lock file against a second controller: {remedy}", remedy = remedy(.0))]
    File(#[from] io::Error),
    /// flock(2) is refused.
    #[error(
        "{0}: the lock file against a second controller: {remedy}",
        remedy = refusal::of_flock(.0, DIRECTORY)
    )]
    Flock(io::Error),
}

/// Locks other controllers out of a namespace until it is dropped.
#[derive(Debug)]
pub struct ControllerLock {
    /// Holds the lock.
    _file: File,
    path: PathBuf,
}

impl ControllerLock {
    /// Takes the lock of `namespace` for the controller `pid`, the process to end for it to end; `interfaces` are for the
    /// error.
    ///
    /// # Errors
    ///
    /// [`ControllerError::Taken`], or [`ControllerError::Io`] where the file cannot be written.
    pub fn take(
        namespace: &Namespace,
        interfaces: &[String],
        pid: u32,
    ) -> Result<Self, ControllerError> {
        let path = path(namespace.cookie());
        match make_and_lock(&path, pid) {
            Ok(Some(file)) => {
                sweep_controllers();
                Ok(Self { _file: file, path })
            }
            Ok(None) => Err(ControllerError::Taken {
                pid: wait_for_pid(&path),
                interfaces: interfaces.join(", "),
            }),
            Err(failure) => Err(ControllerError::Io { path, failure }),
        }
    }

    /// Makes a file beside those of controllers, locks and writes it, and removes it.
    ///
    /// # Errors
    ///
    /// [`ControllerError::Io`] where one of these is refused.
    pub fn try_file() -> Result<(), ControllerError> {
        let path = Path::new(DIRECTORY).join(format!("trial{}", process::id()));
        let made = !Path::new(DIRECTORY).exists();
        let tried = make_and_lock(&path, process::id());
        let _ = fs::remove_file(&path);
        if made {
            // Another process may have files there by now.
            let _ = fs::remove_dir(DIRECTORY);
        }
        let failed = |failure| ControllerError::Io { path, failure };
        tried.map(drop).map_err(failed)
    }

    /// The process id of the namespace's controller; `None` where none runs or its id is not known.
    pub fn of(namespace: &Namespace) -> Option<u32> {
        let path = path(namespace.cookie());
        is_held(&path).then(|| wait_for_pid(&path)).flatten()
    }
}

impl Drop for ControllerLock {
    fn drop(&mut self) {
        // Before the lock is released: a process that waits for it sees that the file is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files of controllers that were killed.
pub fn sweep_controllers() {
    let Ok(files) = fs::read_dir(DIRECTORY) else {
        return;
    };
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let cookies: BTreeSet<u64> = names.filter_map(|name| cookie(&name)).collect();
    for cookie in cookies {
        let path = path(cookie);
        // Holding the lock, nobody else can be the controller. Files are left where it cannot be taken.
        let Ok(Some(_lock)) = try_lock(&path) else {
            continue;
        };
        for extension in ["farm", "farm.next", "lock"] {
            let _ = fs::remove_file(path.with_extension(extension));
        }
    }
}

/// The namespace of a file's name, `net<COOKIE>.lock` or `.farm`.
fn cookie(name: &str) -> Option<u64> {
    let (cookie, kind) = name.strip_prefix("net")?.split_once('.')?;
    let ours = ["lock", "farm", "farm.next"].contains(&kind);
    ours.then(|| cookie.parse().ok()).flatten()
}

/// Makes the directory and locks a file in it. Once more if a trial, which removes the directory that it made, came between.
fn make_and_lock(path: &Path, pid: u32) -> Result<Option<File>, LockFailure> {
    let once = || {
        fs::create_dir_all(DIRECTORY)?;
        lock(path, pid)
    };
    match once() {
        Err(LockFailure::File(error)) if error.kind() == io::ErrorKind::NotFound => once(),
        locked => locked,
    }
}

fn remedy(error: &io::Error) -> String {
    // EACCES has the same kind.
    if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
        return format!(
            "{DIRECTORY} is immutable (`chattr -i {DIRECTORY}`), or a seccomp filter or a security module forbids it"
        );
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free space or inodes on the file system of {DIRECTORY} (`df -hi {DIRECTORY}`)")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "mount a file system at {DIRECTORY} that can be written (in a container a tmpfs)"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("have {DIRECTORY} belong to the user that runs tfo, with mode 0755")
        }
        _ => format!("make {DIRECTORY} a directory that tfo may write to"),
    }
}

/// A controller runs in the namespace of this cookie, as far as this process may know.
pub(crate) fn is_controlled(cookie: u64) -> bool {
    is_held(&path(cookie))
}

fn path(cookie: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("net{cookie}.lock"))
}

/// Locks the file and writes the controller's process id to it; `None` where another process has the lock.
fn lock(path: &Path, pid: u32) -> Result<Option<File>, LockFailure> {
    for _ in 0..TRIES {
        if let Some(mut file) = try_lock(path)? {
            file.set_len(0)?;
            writeln!(file, "{pid}")?;
            return Ok(Some(file));
        }
        thread::sleep(PAUSE);
    }
    Ok(None)
}

/// Makes the file and locks it; `None` where another process has the lock, or removed the file meanwhile.
fn try_lock(path: &Path) -> Result<Option<File>, LockFailure> {
    // Closed to other users: to open the file is enough to lock it.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file.metadata()?.nlink() > 0).then_some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(LockFailure::Flock(error.into())),
    }
}

fn is_held(path: &Path) -> bool {
    // A shared lock, released at once: two readers do not block each other.
    File::open(path).is_ok_and(|file| {
        let locked = flock(file.as_fd(), FlockOperation::NonBlockingLockShared);
        locked == Err(Errno::WOULDBLOCK)
    })
}

/// The id in the file, which the holder writes just after it has locked it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_fit_their_causes() {
        for (errno, says) in [
            (Errno::NOSPC, "free space or inodes"),
            (Errno::ROFS, "tmpfs"),
            (Errno::ACCESS, "mode 0755"),
            (Errno::PERM, "chattr -i /run/tfo"),
            (Errno::NOTDIR, "make /run/tfo a directory"),
        ] {
            let told = remedy(&errno.into());
            assert!(told.contains(says), "{errno}: {told}");
        }
        let flock = LockFailure::Flock(Errno::PERM.into()).to_string();
        assert!(flock.contains("forbids flock(2)"), "{flock}");
    }

    #[test]
    fn only_files_of_controllers_have_a_namespace() {
        for name in ["net7.lock", "net7.farm", "net7.farm.next"] {
            assert_eq!(cookie(name), Some(7), "{name}");
        }
        for name in ["net7", "net7.sock", "net.lock", "netx.lock", "7.lock"] {
            assert_eq!(cookie(name), None, "{name}");
        }
    }
}
