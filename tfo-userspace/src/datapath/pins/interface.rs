//! The pins of an interface.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aya::programs::links::PinnedLink;

use super::{
    clsact_filter::ClsactFilter,
    files::{found, remove_dir_all},
    lock::Lock,
};
use crate::{
    datapath::error::DatapathError,
    kernel::bpf::{LinkKind, LinkState},
};

/// Prefix of the directory of an interface that is being attached or detached.
pub(super) const UNFINISHED: &str = "unfinished";

/// The directory `if<INDEX>` or `unfinished<INDEX>`, which need not exist.
#[derive(Clone, Debug)]
pub(crate) struct InterfacePins {
    pub(crate) index: u32,
    dir: PathBuf,
}

impl InterfacePins {
    pub(super) const fn in_dir(index: u32, dir: PathBuf) -> Self {
        Self { index, dir }
    }

    /// The namespace's directory.
    pub(super) fn parent(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    pub(crate) fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    /// The link at the hook to which the data path is moved.
    pub(crate) fn next_link(&self) -> PathBuf {
        self.dir.join("link-next")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    /// The program that is to replace [`Self::program`].
    pub(crate) fn next_program(&self) -> PathBuf {
        self.dir.join("program-next")
    }

    /// The program array of the tail calls.
    pub(crate) fn tail_calls(&self) -> PathBuf {
        self.dir.join("tail_calls")
    }

    /// The program array that is to replace [`Self::tail_calls`].
    pub(crate) fn next_tail_calls(&self) -> PathBuf {
        self.dir.join("tail_calls-next")
    }

    /// The TCX link of the guard's program for ACKs.
    pub(crate) fn guard(&self) -> PathBuf {
        self.dir.join("guard")
    }

    /// The TCX link of the program for SYN-ACKs that leave.
    pub(crate) fn egress(&self) -> PathBuf {
        self.dir.join("egress")
    }

    /// The [`ClsactFilter`] in place of [`Self::egress`].
    pub(crate) fn egress_filter(&self) -> PathBuf {
        self.dir.join("egress_filter")
    }

    /// The program for SYN-ACKs that leave is attached.
    pub(crate) fn has_egress(&self) -> bool {
        self.egress().exists() || self.egress_filter().exists()
    }

    /// The [`ClsactFilter`], in place of link and program.
    pub(crate) fn filter(&self) -> PathBuf {
        self.dir.join("filter")
    }

    pub(crate) fn info(&self) -> PathBuf {
        self.dir.join("info")
    }

    pub(crate) fn device(&self) -> PathBuf {
        self.dir.join("device")
    }

    pub(crate) fn build(&self) -> PathBuf {
        self.dir.join("build")
    }

    /// The map `name` of the object.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name.to_ascii_lowercase())
    }

    /// The state of the link, or of the filter in its place; `None` where neither is pinned.
    pub(crate) fn link_state(&self) -> Result<Option<LinkState>, DatapathError> {
        if let Some(filter) = ClsactFilter::read(&self.filter())? {
            let program = filter.program();
            let program = program.map_err(DatapathError::io(&self.filter()))?;
            return Ok(Some(LinkState {
                program_id: program.unwrap_or_default(),
                index: program.map_or(0, |_| filter.index),
                kind: LinkKind::Clsact,
            }));
        }
        found(LinkState::read(&self.link())).map_err(DatapathError::io(&self.link()))
    }

    /// Takes the interface's event stream; `None` where another process has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, DatapathError> {
        Lock::try_take(&self.dir)
    }

    /// The link is on an interface, or the filter on one of this namespace. `true` where the kernel does not
    /// tell.
    pub(crate) fn is_alive(&self) -> bool {
        self.link_state()
            .map_or(true, |link| link.is_some_and(|link| link.index != 0))
    }

    /// As [`Self::is_alive`], with a filter of any namespace.
    pub(crate) fn may_be_alive(&self) -> bool {
        match ClsactFilter::read(&self.filter()) {
            Ok(Some(filter)) => filter.may_be_alive(),
            Ok(None) => self.is_alive(),
            Err(_) => true,
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// The directory's name before it is complete and before it is removed.
    fn unfinished(&self) -> Self {
        Self {
            index: self.index,
            dir: self
                .dir
                .with_file_name(format!("{UNFINISHED}{}", self.index)),
        }
    }

    /// Creates the directory as an unfinished one.
    pub(crate) fn begin(&self) -> Result<Self, DatapathError> {
        let pins = self.unfinished();
        let made = fs::DirBuilder::new().mode(0o700).create(&pins.dir);
        made.map_err(DatapathError::io(&pins.dir))?;
        Ok(pins)
    }

    /// Renames the unfinished directory: from now on the interface counts as attached.
    pub(crate) fn finish(&self) -> Result<(), DatapathError> {
        let from = self.unfinished().dir;
        fs::rename(&from, &self.dir).map_err(DatapathError::io(&self.dir))
    }

    /// Renames the directory to an unfinished one, which is to be removed.
    pub(crate) fn retire(&self) -> Result<Self, DatapathError> {
        let to = self.unfinished();
        fs::rename(&self.dir, &to.dir).map_err(DatapathError::io(&self.dir))?;
        Ok(to)
    }

    /// Detaches the programs and removes the directory.
    pub(crate) fn remove(&self) -> Result<(), DatapathError> {
        // Closing the last reference detaches at once; removing the pin alone would do so later.
        let links = [self.link(), self.next_link(), self.guard(), self.egress()];
        let links = links.map(PinnedLink::from_pin);
        for path in [self.egress_filter(), self.filter()] {
            if let Ok(Some(filter)) = ClsactFilter::read(&path) {
                filter.remove().map_err(DatapathError::io(&path))?;
            }
        }
        remove_dir_all(&self.dir)?;
        drop(links);
        Ok(())
    }
}
