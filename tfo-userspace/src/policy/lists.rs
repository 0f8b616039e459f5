//! Sources by name: files of prefixes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::model::{Lists, Prefix};

/// Most prefixes on both lists together.
pub(crate) const MAX: usize = 1 << 20;

/// Why a list was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("list {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A line is no prefix.
    #[error("list {path}, line {line}: {message}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// There are too many.
    #[error("list {path} makes it {number} prefixes: at most {MAX} can be kept", path = path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many there are.
        number: usize,
    },
    /// A prefix is on both lists.
    #[error("{prefix} is on the allow list and on the deny list: take it from one of them")]
    Both {
        /// The prefix.
        prefix: Prefix,
    },
}

impl Lists {
    /// Reads the files: a prefix or an address on each line, `#` before what is not to be read.
    ///
    /// # Errors
    ///
    /// [`ListError`], with the line of what is wrong.
    pub fn read(allow: Option<&Path>, deny: Option<&Path>) -> Result<Self, ListError> {
        Self::default().with(allow, deny)
    }

    /// These, but for those of which there is a file.
    ///
    /// # Errors
    ///
    /// As [`Lists::read`].
    pub fn with(mut self, allow: Option<&Path>, deny: Option<&Path>) -> Result<Self, ListError> {
        if let Some(path) = allow {
            let others = if deny.is_some() { 0 } else { self.deny.len() };
            self.allow = file(path, others)?;
        }
        if let Some(path) = deny {
            self.deny = file(path, self.allow.len())?;
        }
        let twice = |prefix: &&Prefix| self.allow.binary_search(prefix).is_ok();
        match self.deny.iter().find(twice) {
            Some(prefix) => Err(ListError::Both { prefix: *prefix }),
            None => Ok(self),
        }
    }
}

/// The prefixes of a file, each once, in order.
fn file(path: &Path, others: usize) -> Result<Vec<Prefix>, ListError> {
    let text = fs::read_to_string(path).map_err(|source| ListError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut prefixes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let said = line.split('#').next().unwrap_or_default().trim();
        if said.is_empty() {
            continue;
        }
        prefixes.push(said.parse().map_err(|message| ListError::Line {
            path: path.to_owned(),
            line: index + 1,
            message,
        })?);
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    let number = prefixes.len() + others;
    if number > MAX {
        let path = path.to_owned();
        return Err(ListError::TooMany { path, number });
    }
    Ok(prefixes)
}
