//! Sources by name: files of prefixes.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::datapath::Prefix;

/// Prefixes for which other rules hold. Of several that hold a source, the longest counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// No rule and no limit holds for them.
    pub allow: Vec<Prefix>,
    /// What a port's policy says of denied sources holds for them.
    pub deny: Vec<Prefix>,
}

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

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.allow.len() + self.deny.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        prefixes.push(prefix(said).map_err(|message| ListError::Line {
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

/// Reads `ADDRESS` or `ADDRESS/LENGTH`.
fn prefix(text: &str) -> Result<Prefix, String> {
    let wrong =
        || format!("{text:?} is no prefix: write as in 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7");
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let (bits, most) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let len = match len {
        Some(len) => len
            .parse()
            .ok()
            .filter(|len| *len <= most)
            .ok_or_else(wrong)?,
        None => most,
    };
    if bits.checked_shl(len.into()).unwrap_or(0) != 0 {
        return Err(format!(
            "{text:?} has bits behind its length: they would not count"
        ));
    }
    Ok(Prefix { address, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_read_back() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "192.0.2.7/32",
            "::1/128",
        ] {
            assert_eq!(prefix(text).unwrap().to_string(), text);
        }
        assert_eq!(prefix("192.0.2.7"), prefix("192.0.2.7/32"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "x",
            "192.0.2.0/33",
            "::/129",
            "192.0.2/24",
            "192.0.2.0/-1",
            "192.0.2.0/",
        ] {
            assert!(prefix(text).unwrap_err().contains("is no prefix"), "{text}");
        }
        for text in ["192.0.2.1/24", "2001:db8::1/64", "128.0.0.0/0"] {
            assert!(prefix(text).unwrap_err().contains("bits behind"), "{text}");
        }
    }
}
