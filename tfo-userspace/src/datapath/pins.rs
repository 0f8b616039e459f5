//! Where things are pinned, and what is there.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tfo_common::maps::{LAYOUT_VERSION, OF_INTERFACE};

use super::DatapathError;
use crate::kernel::support::BPFFS;

/// The directory of all layout versions.
fn root() -> PathBuf {
    Path::new(BPFFS).join("tfo")
}

fn version_name() -> String {
    format!("v{LAYOUT_VERSION}")
}

/// The pins of a network namespace.
#[derive(Clone, Debug)]
pub(super) struct NamespacePins(PathBuf);

/// The pins of an interface.
#[derive(Clone, Debug)]
pub(super) struct InterfacePins {
    pub(super) index: u32,
    dir: PathBuf,
}

/// Holds others off the pins of a namespace while it lives.
pub(super) struct Lock(fs::File);

impl Lock {
    /// The directory was removed meanwhile, whatever stands in its place now.
    pub(super) fn is_gone(&self) -> bool {
        self.0.metadata().is_ok_and(|dir| dir.nlink() == 0)
    }
}

impl NamespacePins {
    /// The namespace's, which need not exist.
    pub(super) fn new(cookie: u64) -> Self {
        Self(root().join(version_name()).join(format!("net{cookie}")))
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The set that `keys` holds.
    pub(super) fn accepted(&self) -> PathBuf {
        self.0.join("accepted")
    }

    /// When the primary key changed.
    pub(super) fn primary_since(&self) -> PathBuf {
        self.0.join("primary_since")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(super) fn interface(&self, index: u32) -> InterfacePins {
        InterfacePins {
            index,
            dir: self.0.join(format!("if{index}")),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.0.is_dir()
    }

    pub(super) fn create(&self) -> Result<(), DatapathError> {
        fs::create_dir_all(&self.0).map_err(|source| at(&self.0, source))
    }

    /// Waits for whoever else works on this namespace's pins.
    pub(super) fn lock(&self) -> Result<Lock, DatapathError> {
        let lock = || {
            let dir = fs::File::open(&self.0)?;
            flock(dir.as_fd(), FlockOperation::LockExclusive)?;
            Ok(Lock(dir))
        };
        lock().map_err(|source| at(&self.0, source))
    }

    /// Those of the interfaces, by index.
    pub(super) fn interfaces(&self) -> Result<Vec<InterfacePins>, DatapathError> {
        let mut interfaces: Vec<_> = names(&self.0)?
            .iter()
            .filter_map(|name| name.strip_prefix("if")?.parse().ok())
            .map(|index| self.interface(index))
            .collect();
        interfaces.sort_by_key(|pins| pins.index);
        Ok(interfaces)
    }

    /// All maps that are pinned here.
    pub(super) fn maps(&self) -> Result<Vec<PathBuf>, DatapathError> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let mut maps = vec![self.keys(), self.state()];
        // A build before this one pinned neither.
        let newer = [self.accepted(), self.primary_since()];
        maps.extend(newer.into_iter().filter(|path| path.exists()));
        for pins in self.interfaces()? {
            maps.push(pins.info());
            maps.extend(OF_INTERFACE.map(|name| pins.map(name)));
        }
        Ok(maps)
    }

    /// Removes what belongs to the namespace as a whole once its last interface is gone.
    pub(super) fn remove_if_unused(&self) -> Result<(), DatapathError> {
        if !self.interfaces()?.is_empty() {
            return Ok(());
        }
        remove_dir_all(&self.0)?;
        // Other namespaces' pins keep these directories.
        for dir in [root().join(version_name()), root()] {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl InterfacePins {
    pub(super) fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    pub(super) fn info(&self) -> PathBuf {
        self.dir.join("info")
    }

    /// The map of that name in the object.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name.to_ascii_lowercase())
    }

    /// Takes the interface's stream of events; `None` where someone else has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, DatapathError> {
        let dir = fs::File::open(&self.dir).map_err(|source| at(&self.dir, source))?;
        match flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(dir))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(at(&self.dir, error.into())),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    pub(super) fn create(&self) -> Result<(), DatapathError> {
        fs::create_dir(&self.dir).map_err(|source| at(&self.dir, source))
    }

    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        remove_dir_all(&self.dir)
    }
}

/// The directories of other layout versions.
pub(super) fn other_versions() -> Result<Vec<PathBuf>, DatapathError> {
    let names = names(&root())?;
    Ok(names
        .iter()
        .filter(|name| **name != version_name())
        .map(|name| root().join(name))
        .collect())
}

/// The names in a directory; none where there is no directory.
fn names(dir: &Path) -> Result<Vec<String>, DatapathError> {
    let read = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| at(dir, source)),
    }
}

fn remove_dir_all(dir: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(dir, error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: io::Error) -> DatapathError {
    DatapathError::Io {
        path: path.to_owned(),
        source,
    }
}
