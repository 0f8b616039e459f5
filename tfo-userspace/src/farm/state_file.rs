//! The state file of a host: the document that it follows, as etcd had it, and the host's random identifier.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{config::FarmConfig, document::Document};
use crate::{kernel::regular_file, keys::Secret};

/// Most bytes that are read: a document of 1 MiB, as text within text, and an identifier.
const MAX_LEN: u64 = 1 << 22;

/// Why a document could not be stored. The host then does not put it in force.
#[derive(Debug, thiserror::Error)]
#[error("cannot store the farm's keys in {path}, so they do not come into force: {source}", path = path.display())]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateText {
    instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Zeroizing<String>>,
}

/// The state file of this host.
pub(super) struct StateFile {
    path: PathBuf,
    /// 64 random bits, which distinguish this host from another that was given the same name.
    pub(super) instance: String,
}

impl StateFile {
    /// Reads the file, or makes a new identifier where there is none. Gives the stored document, and why an existing
    /// file is not usable: the host then joins the farm anew.
    pub(super) fn open(
        config: &FarmConfig,
        seal: Option<&Secret>,
    ) -> (Self, Option<Document>, Option<String>) {
        let path = path(config);
        let mut problem = None;
        let mut note = |error: &dyn std::fmt::Display| {
            problem = Some(format!(
                "{}: {error}: the file is ignored, and this host joins the farm anew",
                path.display()
            ));
        };
        let text = match regular_file::read(&path, MAX_LEN) {
            Ok(bytes) => serde_json::from_slice::<StateText>(&bytes)
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
            Document::read_stored(text.as_bytes(), seal)
                .map_err(|error| note(&error))
                .ok()
        });
        let instance = match text.instance {
            known if !known.is_empty() => known,
            _ => random_id(),
        };
        (Self { path, instance }, document, problem)
    }

    /// The document that the host of this configuration has stored.
    pub(super) fn stored_document(config: &FarmConfig, seal: Option<&Secret>) -> Option<Document> {
        Self::open(config, seal).1
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a document's text durably: fsync(2) of the file and of its directory.
    pub(super) fn write(&self, document: Option<&str>) -> Result<(), StoreError> {
        let text = StateText {
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

fn path(config: &FarmConfig) -> PathBuf {
    config.state.join(format!("{}.farm", config.host))
}

/// 128 random bits in hexadecimal: no value from before can hold them.
pub(super) fn fresh_id() -> Result<String, getrandom::Error> {
    let (high, low) = (getrandom::u64()?, getrandom::u64()?);
    Ok(format!("{high:016x}{low:016x}"))
}

/// 64 random bits in hexadecimal.
pub(super) fn random_id() -> String {
    // Not a secret: without getrandom(2) the clock is good enough.
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
