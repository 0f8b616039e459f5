//! The pins of a network namespace.

use std::{fs, io, path::PathBuf, time::Duration};

use tfo_common::abi::{OF_INTERFACE, OF_NAMESPACE};

use super::{
    files::{names, namespace_name, remove_dir_all, root, version_name},
    interface::{InterfacePins, UNFINISHED},
    lock::Lock,
    private::{check, close, create_dir_all},
};
use crate::datapath::error::DatapathError;

/// Tries to create a directory that another process removes at the same moment.
const TRIES: u32 = 1000;

/// The directory `net<COOKIE>`, which need not exist.
#[derive(Clone, Debug)]
pub(crate) struct NamespacePins(PathBuf);

impl NamespacePins {
    pub(crate) fn new(cookie: u64) -> Self {
        Self(root().join(version_name()).join(namespace_name(cookie)))
    }

    /// The pins of other namespaces in this layout version, with their cookies.
    pub(crate) fn others(&self) -> Result<Vec<(u64, Self)>, DatapathError> {
        let root = root().join(version_name());
        let names = names(&root)?;
        let cookies = names.iter().filter_map(|name| name.strip_prefix("net"));
        let pins = cookies.filter_map(|cookie| cookie.parse().ok());
        Ok(pins
            .map(|cookie| (cookie, Self::new(cookie)))
            .filter(|(_, pins)| pins.0 != self.0)
            .collect())
    }

    /// The namespace's cookie.
    pub(crate) fn cookie(&self) -> u64 {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        let cookie = name.strip_prefix("net");
        cookie.and_then(|it| it.parse().ok()).unwrap_or_default()
    }

    /// A namespace's directory in any layout version.
    pub(super) const fn in_dir(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The map `name` of the object, shared by the namespace's interfaces.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.0.join(name.to_ascii_lowercase())
    }

    /// The inner map in force of the map of maps `name`.
    pub(crate) fn in_force(&self, name: &str) -> PathBuf {
        self.0
            .join(format!("{}_in_force", name.to_ascii_lowercase()))
    }

    /// The inner map that is to replace [`Self::in_force`].
    pub(crate) fn next(&self, name: &str) -> PathBuf {
        self.0.join(format!("{}_next", name.to_ascii_lowercase()))
    }

    /// The inner map of `name` that is in force: [`Self::next`] where a killed process left that alone.
    pub(crate) fn present(&self, name: &str) -> PathBuf {
        let path = self.in_force(name);
        if path.exists() { path } else { self.next(name) }
    }

    /// The inner map of `keys`.
    pub(crate) fn accepted(&self) -> PathBuf {
        self.0.join("accepted")
    }

    /// The link of the program that learns of handshakes, while a policy withholds cookies.
    pub(crate) fn handshakes(&self) -> PathBuf {
        self.0.join("handshakes")
    }

    pub(crate) fn primary_since(&self) -> PathBuf {
        self.0.join("primary_since")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn interface(&self, index: u32) -> InterfacePins {
        InterfacePins::in_dir(index, self.0.join(format!("if{index}")))
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Locks the namespace's pins against other processes, and waits for them within bounds; `None` where nothing is
    /// pinned.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        check(&self.0)?;
        close(&self.0)?;
        Lock::take(&self.0)
    }

    /// As [`Self::lock`], but waits for one holder no longer than `limit`.
    pub(crate) fn lock_within(&self, limit: Duration) -> Result<Option<Lock>, DatapathError> {
        check(&self.0)?;
        Lock::take_within(&self.0, limit)
    }

    /// As [`Self::lock`], but creates the directory where there is none.
    pub(crate) fn lock_or_create(&self) -> Result<Lock, DatapathError> {
        for _ in 0..TRIES {
            check(&self.0)?;
            match create_dir_all(&self.0) {
                // Another process removed a parent directory that it was the last to need.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made.map_err(DatapathError::io(&self.0))?,
            }
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
        }
        let error = io::Error::other("other processes keep removing it");
        Err(DatapathError::io(&self.0)(error))
    }

    /// As [`Self::lock`], but `None` where another process holds the lock.
    pub(crate) fn try_lock(&self) -> Option<Lock> {
        check(&self.0).ok()?;
        Lock::try_take(&self.0).ok()?
    }

    /// The pins of attached interfaces, by index.
    pub(crate) fn interfaces(&self) -> Result<Vec<InterfacePins>, DatapathError> {
        self.with_prefix("if")
    }

    /// Leftovers of killed attaches and detaches, by index.
    pub(crate) fn unfinished(&self) -> Result<Vec<InterfacePins>, DatapathError> {
        self.with_prefix(UNFINISHED)
    }

    fn with_prefix(&self, prefix: &str) -> Result<Vec<InterfacePins>, DatapathError> {
        check(&self.0)?;
        let mut interfaces: Vec<_> = names(&self.0)?
            .iter()
            .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
            .map(|index| InterfacePins::in_dir(index, self.0.join(format!("{prefix}{index}"))))
            .collect();
        interfaces.sort_by_key(|pins| pins.index);
        Ok(interfaces)
    }

    /// The paths of all pinned maps.
    pub(crate) fn maps(&self) -> Result<Vec<PathBuf>, DatapathError> {
        // An attach in progress, or a killed one, may not have made them yet.
        let mut maps = vec![self.state(), self.accepted(), self.primary_since()];
        maps.extend(OF_NAMESPACE.map(|name| self.map(name)));
        maps.retain(|path| path.exists());
        for pins in self.interfaces()? {
            maps.extend([pins.info(), pins.tail_calls()]);
            maps.extend(OF_INTERFACE.map(|name| pins.map(name)));
        }
        Ok(maps)
    }

    /// Removes the directory, unless it has an interface.
    pub(crate) fn remove_if_unused(&self) -> Result<(), DatapathError> {
        if !self.interfaces()?.is_empty() || !self.unfinished()?.is_empty() {
            return Ok(());
        }
        remove_dir_all(&self.0)?;
        self.remove_parents();
        Ok(())
    }

    /// Removes the parent directories that are empty now.
    fn remove_parents(&self) {
        for dir in self.0.ancestors().skip(1).take(2) {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }
}
