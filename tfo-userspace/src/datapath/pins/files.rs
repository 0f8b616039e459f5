//! Files and directories of the BPF file system, where an absent one is no error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tfo_common::abi::LAYOUT_VERSION;

use crate::{datapath::error::DatapathError, kernel::support::BPFFS};

/// The directory of all layout versions.
pub(super) fn root() -> PathBuf {
    Path::new(BPFFS).join("tfo")
}

/// The directory name of this layout version.
pub(super) fn version_name() -> String {
    format!("v{LAYOUT_VERSION}")
}

/// The directory name of a network namespace.
pub(super) fn namespace_name(cookie: u64) -> String {
    format!("net{cookie}")
}

/// The names in a directory; none where it does not exist.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, DatapathError> {
    let read = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
    };
    let names = found(read()).map_err(DatapathError::io(dir))?;
    Ok(names.unwrap_or_default())
}

/// Removes a directory of pins, if it exists.
pub(super) fn remove_dir_all(dir: &Path) -> Result<(), DatapathError> {
    let removed = found(fs::remove_dir_all(dir));
    removed.map(drop).map_err(DatapathError::io(dir))
}

/// Removes a pin, if it exists.
pub(crate) fn remove_file(path: &Path) -> Result<(), DatapathError> {
    let removed = found(fs::remove_file(path));
    removed.map(drop).map_err(DatapathError::io(path))
}

/// `None` where the file or directory does not exist.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// `None` where a map is not pinned: attach makes them one after another, and detach removes them so.
pub(crate) fn found_maps<T>(result: Result<T, DatapathError>) -> Result<Option<T>, DatapathError> {
    match result {
        Err(error) if error.is_absence() => Ok(None),
        result => result.map(Some),
    }
}
