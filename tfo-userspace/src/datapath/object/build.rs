//! Which build attached an interface, for a later one to know whether its data path is another.

use std::{fmt, path::Path, sync::LazyLock};

use blake2::{Blake2s256, Digest as _};

use super::{DatapathError, OBJECT, value};

const NAME: &str = "build";

/// A build's data path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Build {
    /// The controller's version.
    pub version: String,
    /// The first 64 bits of the eBPF object's BLAKE2s digest, in hexadecimal: builds whose objects are
    /// the same have the same data path.
    pub object: String,
}

impl Build {
    /// The running one.
    pub fn own() -> Self {
        static OWN: LazyLock<Build> = LazyLock::new(|| Build::from(Stored::own()));
        OWN.clone()
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object.get(..8).unwrap_or(&self.object);
        write!(f, "{} ({object})", self.version)
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Stored {
    digest: u64,
    /// Text, then zeros.
    version: [u8; 24],
}

// SAFETY: `repr(C)`, a u64 and three times its size in bytes: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Stored {}

impl Stored {
    fn own() -> Self {
        let digest = Blake2s256::digest(OBJECT);
        let mut version = [0; 24];
        for (to, from) in version.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()) {
            *to = from;
        }
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self {
            digest: u64::from_be_bytes(first),
            version,
        }
    }
}

impl From<Stored> for Build {
    fn from(stored: Stored) -> Self {
        let version = stored.version.split(|byte| *byte == 0).next();
        Self {
            version: String::from_utf8_lossy(version.unwrap_or_default()).into_owned(),
            object: format!("{:016x}", stored.digest),
        }
    }
}

/// Pins the running build at `path`.
pub(super) fn write(path: &Path) -> Result<(), DatapathError> {
    value::write(path, NAME, Stored::own())
}

/// Reads it from `path`; `None` where a build from before this was kept attached the interface.
pub(super) fn read(path: &Path) -> Result<Option<Build>, DatapathError> {
    if !path.exists() {
        return Ok(None);
    }
    value::read::<Stored>(path, NAME).map(|stored| Some(stored.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_its_version_and_its_object() {
        let own = Build::own();
        assert_eq!(own.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(own.object.len(), 16);
        assert_eq!(
            own.to_string(),
            format!("{} ({})", own.version, &own.object[..8])
        );
    }
}
