//! Keys in a file that another program writes: one line `PRIMARY[,BACKUP]`, readable by its owner alone.

use std::path::{Path, PathBuf};

use crate::{
    kernel::clock::Now,
    keys::{
        error::KeyFileError, private_file::read_private_file, schedule::KeyPlan, source::KeySource,
        watched_file::WatchedFile,
    },
    model::KeyPair,
};

/// Longer than any pair's text.
const MAX_LEN: u64 = 256;

/// The keys in a file, reread when it changes.
pub struct FileSource {
    file: WatchedFile,
    pair: Option<KeyPair>,
}

impl FileSource {
    /// `path` is a file that [`read_key_file`] reads.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            file: WatchedFile::new(path),
            pair: None,
        }
    }
}

impl KeySource for FileSource {
    fn name(&self) -> &'static str {
        "file"
    }

    fn refresh(&mut self) -> Result<(), String> {
        let read = self.file.read_if_changed(read_key_file);
        if let Some(pair) = read.map_err(|error| error.to_string())? {
            self.pair = Some(pair);
        }
        Ok(())
    }

    fn plan(&self, _now: Now, _kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String> {
        Ok(self.pair.as_ref().map(KeyPlan::unstaged))
    }
}

/// Reads the pair in a key file.
///
/// # Errors
///
/// [`KeyFileError`] where it cannot be read, is open to other users, or holds no pair.
pub fn read_key_file(path: &Path) -> Result<KeyPair, KeyFileError> {
    let bytes = read_private_file(path, MAX_LEN)?;
    let text = str::from_utf8(&bytes).map_err(|_| KeyFileError::not_utf8(path))?;
    KeyPair::parse(text).map_err(|source| KeyFileError::Text {
        path: path.to_owned(),
        source,
    })
}
