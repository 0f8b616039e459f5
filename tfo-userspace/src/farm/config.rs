//! What a host has to know to be one of a farm.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::keys::{KeyFileError, Secret, read_private};

/// Bytes of a certificate's chain, of a private key or of a password, at most.
const MAX_LEN: u64 = 1 << 16;

/// A host's farm. Paths are of files that their owner alone may read, but for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarmConfig {
    /// Where etcd is: `http://` or `https://`, a host and a port.
    pub endpoints: Vec<String>,
    /// What the farm's keys in etcd begin with; it ends in `/`.
    pub prefix: String,
    /// What this host is called, as no other one of the farm is.
    pub host: String,
    /// Whom etcd knows, and the file of the password.
    pub user: Option<(String, PathBuf)>,
    /// The certificates that may have signed etcd's, in PEM.
    pub ca: Option<PathBuf>,
    /// This host's certificate and its private key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The farm's seal: 32 bytes, or 64 hexadecimal digits.
    pub seal: Option<PathBuf>,
    /// The directory where hosts store what they have in force.
    pub state: PathBuf,
    /// How long each key is primary.
    pub interval: Duration,
    /// How long a host may be silent before a rotation goes on without it.
    pub patience: Duration,
}

impl FarmConfig {
    /// Makes sure that all files can be read.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], naming the file.
    pub fn check(&self) -> Result<(), KeyFileError> {
        self.seal()?;
        self.password()?;
        self.key()?;
        let certificates = self.certificate.iter().map(|(path, _)| path);
        for path in certificates.chain(&self.ca) {
            pem(path)?;
        }
        Ok(())
    }

    /// What documents are sealed with, if they are.
    pub(super) fn seal(&self) -> Result<Option<Secret>, KeyFileError> {
        self.seal.as_deref().map(Secret::read).transpose()
    }

    /// The password, without the line's end.
    pub(super) fn password(&self) -> Result<Option<zeroize::Zeroizing<String>>, KeyFileError> {
        let Some((_, path)) = &self.user else {
            return Ok(None);
        };
        let bytes = read_private(path, MAX_LEN)?;
        let text = str::from_utf8(&bytes).map_err(|_| not_text(path))?;
        Ok(Some(zeroize::Zeroizing::new(
            text.trim_end_matches('\n').to_owned(),
        )))
    }

    /// The private key of this host's certificate.
    pub(super) fn key(&self) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, KeyFileError> {
        let key = self.certificate.as_ref().map(|(_, key)| key);
        key.map(|path| read_private(path, MAX_LEN)).transpose()
    }
}

/// What is in a file that everyone may read.
pub(super) fn pem(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    std::fs::read(path).map_err(|source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    })
}

fn not_text(path: &Path) -> KeyFileError {
    KeyFileError::Read {
        path: path.to_owned(),
        source: std::io::Error::other("stream did not contain valid UTF-8"),
    }
}
