//! The configuration of a host of a farm, and the files that it names.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    kernel::regular_file,
    keys::{KeyFileError, Secret, read_private_file},
};

/// Most bytes of a private key or a password.
const MAX_LEN: u64 = 1 << 16;
/// Most bytes of certificates: a distribution's bundle of authorities has some 200 KiB.
const MAX_CERTIFICATES: u64 = 1 << 22;

/// The farm of a host. All files but certificates must be readable by their owner alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarmConfig {
    /// The endpoints of etcd: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// The prefix of the farm's keys in etcd; it ends in `/`.
    pub prefix: String,
    /// The host's name, unique in the farm.
    pub host: String,
    /// The user of etcd, and the file of the password.
    pub user: Option<(String, PathBuf)>,
    /// The certificate authorities of etcd, in PEM.
    pub ca: Option<PathBuf>,
    /// The client certificate and its private key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The secret that seals the farm's keys, in the format of [`Secret::parse`].
    pub seal: Option<PathBuf>,
    /// The directory of the state file.
    pub state: PathBuf,
    /// The time for which a key is primary.
    pub interval: Duration,
    /// The time that a rotation waits for a host before it leaves the host behind.
    pub patience: Duration,
    /// The least epoch that may come into force; a host without a stored document then needs no leader's answer.
    pub least_epoch: Option<u64>,
}

impl FarmConfig {
    /// Reads all files, to find errors early.
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
            read_pem(path)?;
        }
        Ok(())
    }

    /// The secret that seals documents.
    pub(super) fn seal(&self) -> Result<Option<Secret>, KeyFileError> {
        self.seal.as_deref().map(Secret::read).transpose()
    }

    /// The password, without trailing newlines.
    pub(super) fn password(&self) -> Result<Option<Zeroizing<String>>, KeyFileError> {
        let Some((_, path)) = &self.user else {
            return Ok(None);
        };
        let bytes = read_private_file(path, MAX_LEN)?;
        let text = str::from_utf8(&bytes).map_err(|_| KeyFileError::not_utf8(path))?;
        Ok(Some(Zeroizing::new(text.trim_end_matches('\n').to_owned())))
    }

    /// The private key of this host's certificate.
    pub(super) fn key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
        let key = self.certificate.as_ref().map(|(_, key)| key);
        key.map(|path| read_private_file(path, MAX_LEN)).transpose()
    }
}

/// Reads a certificate file, which any user may read.
pub(super) fn read_pem(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let bytes =
        regular_file::read(path, MAX_CERTIFICATES).map_err(|source| KeyFileError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes.to_vec())
}
