//! Where things are pinned, and what is there.
//!
//! An interface's directory is made under another name and then renamed, and renamed back before it is
//! removed: one with its own name is whole, whenever a process died.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::links::PinnedLink;
use tfo_common::maps::{LAYOUT_VERSION, OF_INTERFACE, OF_NAMESPACE};

use super::{DatapathError, filter::Filter, lock::Lock};
use crate::kernel::{bpf::LinkState, support::BPFFS};

/// How often a directory is made anew that another process removes in the same moment.
const TRIES: u32 = 1000;

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

impl NamespacePins {
    /// The namespace's, which need not exist.
    pub(super) fn new(cookie: u64) -> Self {
        Self(root().join(version_name()).join(namespace_name(cookie)))
    }

    /// Those of other namespaces, with their cookies.
    pub(super) fn others(&self) -> Result<Vec<(u64, Self)>, DatapathError> {
        let root = root().join(version_name());
        let names = names(&root)?;
        let cookies = names.iter().filter_map(|name| name.strip_prefix("net"));
        let pins = cookies.filter_map(|cookie| cookie.parse().ok());
        Ok(pins
            .map(|cookie| (cookie, Self::new(cookie)))
            .filter(|(_, pins)| pins.0 != self.0)
            .collect())
    }

    /// The map of that name in the object, which all interfaces share.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.0.join(name.to_ascii_lowercase())
    }

    /// The inner map that is in force of the map of maps of that name.
    pub(super) fn in_force(&self, name: &str) -> PathBuf {
        self.0
            .join(format!("{}_in_force", name.to_ascii_lowercase()))
    }

    /// The one that is to take its place.
    pub(super) fn next(&self, name: &str) -> PathBuf {
        self.0.join(format!("{}_next", name.to_ascii_lowercase()))
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

    /// Waits for whoever else works on this namespace's pins; `None` where nothing is pinned.
    pub(super) fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        found(Lock::take(&self.0)).map_err(DatapathError::io(&self.0))
    }

    /// As [`Self::lock`], with the directory made where there is none.
    pub(super) fn lock_or_create(&self) -> Result<Lock, DatapathError> {
        for _ in 0..TRIES {
            match fs::create_dir_all(&self.0) {
                // Another process removed one on the way, as the last one to need it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made.map_err(DatapathError::io(&self.0))?,
            }
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
        }
        let error = io::Error::other("it is removed again and again");
        Err(DatapathError::io(&self.0)(error))
    }

    /// As [`Self::lock`], but `None` also where another process works on them.
    pub(super) fn try_lock(&self) -> Option<Lock> {
        Lock::try_take(&self.0).ok()
    }

    /// Those of the interfaces, by index.
    pub(super) fn interfaces(&self) -> Result<Vec<InterfacePins>, DatapathError> {
        self.with_prefix("if")
    }

    /// What attaching and detaching left of interfaces when it was interrupted.
    pub(super) fn unfinished(&self) -> Result<Vec<InterfacePins>, DatapathError> {
        self.with_prefix(UNFINISHED)
    }

    fn with_prefix(&self, prefix: &str) -> Result<Vec<InterfacePins>, DatapathError> {
        let mut interfaces: Vec<_> = names(&self.0)?
            .iter()
            .filter_map(|name| name.strip_prefix(prefix)?.parse().ok())
            .map(|index| InterfacePins {
                index,
                dir: self.0.join(format!("{prefix}{index}")),
            })
            .collect();
        interfaces.sort_by_key(|pins| pins.index);
        Ok(interfaces)
    }

    /// All maps that are pinned here.
    pub(super) fn maps(&self) -> Result<Vec<PathBuf>, DatapathError> {
        // An attach that is under way, or was cut off, may not have made them yet.
        let mut maps = vec![self.state(), self.accepted(), self.primary_since()];
        maps.extend(OF_NAMESPACE.map(|name| self.map(name)));
        maps.retain(|path| path.exists());
        for pins in self.interfaces()? {
            maps.extend([pins.info(), pins.stages()]);
            maps.extend(OF_INTERFACE.map(|name| pins.map(name)));
        }
        Ok(maps)
    }

    /// Removes what belongs to the namespace as a whole once its last interface is gone.
    pub(super) fn remove_if_unused(&self) -> Result<(), DatapathError> {
        if !self.interfaces()?.is_empty() || !self.unfinished()?.is_empty() {
            return Ok(());
        }
        remove_dir_all(&self.0)?;
        self.remove_parents();
        Ok(())
    }

    /// Removes the directories above, unless they hold something else.
    fn remove_parents(&self) {
        for dir in self.0.ancestors().skip(1).take(2) {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }
}

/// Begins the name of an interface's directory that is not whole, yet or any more.
const UNFINISHED: &str = "unfinished";

impl InterfacePins {
    pub(super) fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    /// Where a program is pinned that is to take the other one's place.
    pub(super) fn next_program(&self) -> PathBuf {
        self.dir.join("program-next")
    }

    /// The array by which the program jumps to the one for policies.
    pub(super) fn stages(&self) -> PathBuf {
        self.dir.join("stages")
    }

    /// Where such an array is pinned that is to take the other one's place.
    pub(super) fn next_stages(&self) -> PathBuf {
        self.dir.join("stages-next")
    }

    /// The link of the guard's program in traffic control.
    pub(super) fn guard(&self) -> PathBuf {
        self.dir.join("guard")
    }

    /// Where a clsact filter is, in place of a link and of a pinned program.
    pub(super) fn filter(&self) -> PathBuf {
        self.dir.join("filter")
    }

    pub(super) fn info(&self) -> PathBuf {
        self.dir.join("info")
    }

    pub(super) fn build(&self) -> PathBuf {
        self.dir.join("build")
    }

    /// The map of that name in the object.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name.to_ascii_lowercase())
    }

    /// What the kernel says of the link, or of the filter in its place; `None` where there is neither.
    pub(super) fn link_state(&self) -> Result<Option<LinkState>, DatapathError> {
        if let Some(filter) = Filter::read(&self.filter())? {
            let program = filter.program();
            let program = program.map_err(DatapathError::io(&self.filter()))?;
            return Ok(Some(LinkState {
                program_id: program.unwrap_or_default(),
                index: program.map_or(0, |_| filter.index),
                tcx: true,
            }));
        }
        found(LinkState::read(&self.link())).map_err(DatapathError::io(&self.link()))
    }

    /// Takes the interface's stream of events; `None` where someone else has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, DatapathError> {
        match Lock::try_take(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            lock => lock.map(Some).map_err(DatapathError::io(&self.dir)),
        }
    }

    /// Whether its link is on an interface, or its filter on one of this namespace. Where the kernel does not
    /// say, it is.
    pub(super) fn is_alive(&self) -> bool {
        self.link_state()
            .map_or(true, |link| link.is_some_and(|link| link.index != 0))
    }

    /// As [`Self::is_alive`], of a filter in whatever namespace.
    pub(super) fn may_be_alive(&self) -> bool {
        match Filter::read(&self.filter()) {
            Ok(Some(filter)) => filter.may_be_alive(),
            Ok(None) => self.is_alive(),
            Err(_) => true,
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Where its directory is made, and where it goes before it is removed.
    fn unfinished(&self) -> Self {
        Self {
            index: self.index,
            dir: self
                .dir
                .with_file_name(format!("{UNFINISHED}{}", self.index)),
        }
    }

    /// Begins the directory, under the name of an unfinished one.
    pub(super) fn begin(&self) -> Result<Self, DatapathError> {
        let pins = self.unfinished();
        fs::create_dir(&pins.dir).map_err(DatapathError::io(&pins.dir))?;
        Ok(pins)
    }

    /// Gives the directory that was begun its name: from now on the interface is attached.
    pub(super) fn finish(&self) -> Result<(), DatapathError> {
        let from = self.unfinished().dir;
        fs::rename(&from, &self.dir).map_err(DatapathError::io(&self.dir))
    }

    /// Takes its name from the directory, which is to be removed.
    pub(super) fn retire(&self) -> Result<Self, DatapathError> {
        let to = self.unfinished();
        fs::rename(&self.dir, &to.dir).map_err(DatapathError::io(&self.dir))?;
        Ok(to)
    }

    /// Detaches the program, if it is attached, and removes the directory.
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        // Closing the last reference detaches at once; removing the pin alone would do so later.
        let links = [self.link(), self.guard()].map(PinnedLink::from_pin);
        if let Ok(Some(filter)) = Filter::read(&self.filter()) {
            filter.remove().map_err(DatapathError::io(&self.filter()))?;
        }
        remove_dir_all(&self.dir)?;
        drop(links);
        Ok(())
    }
}

/// An interface's pins in another layout version. All that is known of it is that the link is where this
/// version has it.
#[derive(Clone, Debug)]
pub(super) struct OtherLayout {
    /// The version's name, such as `v1`.
    pub(super) version: String,
    pub(super) pins: InterfacePins,
}

impl OtherLayout {
    /// Those of a namespace, by version and index.
    pub(super) fn all(cookie: u64) -> Result<Vec<Self>, DatapathError> {
        let mut found = Vec::new();
        for version in names(&root())? {
            if version == version_name() {
                continue;
            }
            let namespace = NamespacePins(root().join(&version).join(namespace_name(cookie)));
            found.extend(namespace.interfaces()?.into_iter().map(|pins| Self {
                version: version.clone(),
                pins,
            }));
        }
        Ok(found)
    }

    /// Detaches what is attached, removes the directory, and with the namespace's last one all that the
    /// version had there.
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        self.pins.remove()?;
        let namespace = self.pins.dir.parent().unwrap_or(&self.pins.dir);
        NamespacePins(namespace.to_owned()).remove_if_unused()
    }
}

fn namespace_name(cookie: u64) -> String {
    format!("net{cookie}")
}

/// The names in a directory; none where there is no directory.
fn names(dir: &Path) -> Result<Vec<String>, DatapathError> {
    let read = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
    };
    let names = found(read()).map_err(DatapathError::io(dir))?;
    Ok(names.unwrap_or_default())
}

fn remove_dir_all(dir: &Path) -> Result<(), DatapathError> {
    let removed = found(fs::remove_dir_all(dir));
    removed.map(drop).map_err(DatapathError::io(dir))
}

/// Removes a pin, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), DatapathError> {
    let removed = found(fs::remove_file(path));
    removed.map(drop).map_err(DatapathError::io(path))
}

/// `None` where the file or directory is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// `None` where a map was not pinned: an attach that is under way makes one after another, and a detach removes
/// them so.
pub(super) fn found_maps<T>(result: Result<T, DatapathError>) -> Result<Option<T>, DatapathError> {
    match result {
        Err(error) if error.is_absence() => Ok(None),
        result => result.map(Some),
    }
}
