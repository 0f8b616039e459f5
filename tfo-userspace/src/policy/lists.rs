//! The files of the allow list and the deny list.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    kernel::regular_file,
    model::{Lists, Prefix},
};

/// Most prefixes on both lists together.
const MAX_PREFIXES: usize = 1 << 20;
/// Most bytes of a file: 64 for each prefix, which leaves room for comments.
const MAX_LEN: u64 = 64 << 20;

/// Why a list was refused.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read, or is not UTF-8.
    #[error("list {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is no prefix.
    #[error("list {path}, line {line}: {message}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// The mistake and its remedy.
        message: String,
    },
    /// The lists have too many prefixes.
    #[error("list {path}: {number} prefixes on both lists: the most is {MAX_PREFIXES}", path = path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
        /// Prefixes on both lists.
        number: usize,
    },
    /// A prefix is on both lists.
    #[error("{prefix} is on the allow list and on the deny list: remove it from one of them")]
    Both {
        /// The prefix.
        prefix: Prefix,
    },
}

impl Lists {
    /// Reads the files: a prefix or an address on each line; `#` begins a comment.
    ///
    /// # Errors
    ///
    /// [`ListError`], with the line of the mistake.
    pub fn read(allow: Option<&Path>, deny: Option<&Path>) -> Result<Self, ListError> {
        Self::default().with(allow, deny)
    }

    /// These lists, with those replaced for which a file is given.
    ///
    /// # Errors
    ///
    /// Those of [`Lists::read`].
    pub fn with(mut self, allow: Option<&Path>, deny: Option<&Path>) -> Result<Self, ListError> {
        if let Some(path) = allow {
            let others = if deny.is_some() { 0 } else { self.deny.len() };
            self.allow = read_file(path, others)?;
        }
        if let Some(path) = deny {
            self.deny = read_file(path, self.allow.len())?;
        }
        let twice = |prefix: &&Prefix| self.allow.binary_search(prefix).is_ok();
        match self.deny.iter().find(twice) {
            Some(prefix) => Err(ListError::Both { prefix: *prefix }),
            None => Ok(self),
        }
    }
}

/// Reads the prefixes of a file, sorted and without duplicates. `others` is the number on the other list.
fn read_file(path: &Path, others: usize) -> Result<Vec<Prefix>, ListError> {
    let failed = |source| ListError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = regular_file::read(path, MAX_LEN).map_err(failed)?;
    let content = regular_file::text(&bytes).map_err(failed)?;
    let mut prefixes = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        prefixes.push(text.parse().map_err(|message| ListError::Line {
            path: path.to_owned(),
            line: index + 1,
            message,
        })?);
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    let number = prefixes.len() + others;
    if number > MAX_PREFIXES {
        let path = path.to_owned();
        return Err(ListError::TooMany { path, number });
    }
    Ok(prefixes)
}
