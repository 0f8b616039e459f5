//! The text of a configuration file, for errors with a line number.

use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::process::geteuid;
use serde::de::DeserializeOwned;

use super::error::ConfigError;
use crate::kernel::regular_file;

/// The text of a configuration, and the file that it is from.
pub(super) struct ConfigText<'a> {
    pub(super) text: &'a str,
    /// `None` for flags alone.
    pub(super) path: Option<&'a Path>,
}

impl ConfigText<'_> {
    /// Deserializes the text.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text)
            .map_err(|error| self.error(error.span(), error.message().replace('\n', ", ")))
    }

    /// A [`ConfigError::Invalid`] for the bytes `at` of the text.
    pub(super) fn error(&self, at: Option<Range<usize>>, message: String) -> ConfigError {
        let place = match (self.path, at) {
            (Some(path), Some(at)) => {
                let before = self.text.get(..at.start).unwrap_or(self.text);
                let line = 1 + before.matches('\n').count();
                format!("{}:{line}", path.display())
            }
            (Some(path), None) => path.display().to_string(),
            (None, _) => "command line".to_owned(),
        };
        ConfigError::Invalid { place, message }
    }
}

/// Permission bits by which group and others write.
const OTHERS_WRITE: u32 = 0o022;
/// Most bytes of a file.
const MAX_LEN: u64 = 4 << 20;

/// Reads a file for one command. Whoever gives the command answers for the file's owner.
///
/// # Errors
///
/// [`ConfigError::Read`], or [`ConfigError::Writable`] where others may write the file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    open(path).and_then(|(file, _)| text(file, path))
}

/// Reads the file of a service, which reads it again at a reload.
///
/// # Errors
///
/// As [`read`], and [`ConfigError::Owner`] where neither this process's user nor root owns the file.
pub(super) fn read_owned(path: &Path) -> Result<String, ConfigError> {
    let (file, metadata) = open(path)?;
    let (owner, user) = (metadata.uid(), geteuid().as_raw());
    if ![0, user].contains(&owner) {
        let path = path.to_owned();
        return Err(ConfigError::Owner { path, owner, user });
    }
    text(file, path)
}

fn open(path: &Path) -> Result<(File, Metadata), ConfigError> {
    let (file, metadata) = regular_file::open(path).map_err(failed(path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        let path = path.to_owned();
        return Err(ConfigError::Writable { path, mode });
    }
    Ok((file, metadata))
}

fn text(file: File, path: &Path) -> Result<String, ConfigError> {
    let bytes = regular_file::read_all(file, MAX_LEN).map_err(failed(path))?;
    let text = regular_file::text(&bytes).map_err(failed(path))?;
    Ok(text.to_owned())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ConfigError {
    move |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    }
}
