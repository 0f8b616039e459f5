//! What a host of a farm has stored: the document that it goes by, as it was read, and what tells this host
//! from another one that was given the same name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{FarmConfig, document::Document};
use crate::keys::Secret;

/// Why what was to be stored is not.
#[derive(Debug, thiserror::Error)]
#[error("cannot store the farm's keys in {path}, and takes none that it would forget: {source}", path = path.display())]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Zeroizing<String>>,
}

/// A host's file.
pub(super) struct StateFile {
    path: PathBuf,
    /// 64 random bits, which stay for as long as the file does.
    pub(super) instance: String,
}

impl StateFile {
    /// Reads it, or begins a new one; with the document that is stored there. What is wrong with a file that
    /// is of no use is told besides: its host is as one that has yet to join.
    pub(super) fn open(
        config: &FarmConfig,
        seal: Option<&Secret>,
    ) -> (Self, Option<Document>, Option<String>) {
        let path = path(config);
        let mut wrong = None;
        let mut note = |error: &dyn std::fmt::Display| {
            wrong = Some(format!(
                "{}: {error}: this host goes on as one that has yet to join",
                path.display()
            ));
        };
        let text = match fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) => serde_json::from_slice::<Text>(&bytes)
                .map_err(|error| note(&error))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                note(&error);
                None
            }
        };
        let text = text.unwrap_or_default();
        let document = text.document.as_ref().and_then(|text| {
            Document::read(text.as_bytes(), seal)
                .map_err(|error| note(&error))
                .ok()
        });
        let instance = match text.instance {
            known if !known.is_empty() => known,
            _ => random_id(),
        };
        (Self { path, instance }, document, wrong)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a document's text for good: when this returns, it is there after a loss of power, too.
    pub(super) fn write(&self, document: Option<&str>) -> Result<(), StoreError> {
        let text = Text {
            instance: self.instance.clone(),
            document: document.map(|text| Zeroizing::new(text.to_owned())),
        };
        let bytes = serde_json::to_vec(&text).map(Zeroizing::new);
        bytes
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes))
            .map_err(|source| StoreError {
                path: self.path.clone(),
                source,
            })
    }
}

/// The file of this configuration's host.
fn path(config: &FarmConfig) -> PathBuf {
    config.state.join(format!("{}.farm", config.host))
}

/// The document that this configuration's host has stored.
pub(super) fn stored(config: &FarmConfig, seal: Option<&Secret>) -> Option<Document> {
    StateFile::open(config, seal).1
}

/// A name that nobody else has.
pub(super) fn random_id() -> String {
    // Not a secret: where the kernel has no random numbers, the clock will do.
    let number =
        getrandom::u64().unwrap_or_else(|_| crate::kernel::clock::since_boot().as_nanos() as u64);
    format!("{number:016x}")
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let next = path.with_extension("farm.next");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(directory)?.sync_all()
}
