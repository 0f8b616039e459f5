//! The build that attached an interface, pinned so that a later build knows whether its data path differs.

use std::{fmt, path::Path, sync::LazyLock};

use blake2::{Blake2s256, Digest as _};

use super::image::OBJECT;
use crate::datapath::{
    error::DatapathError,
    pins::{read_value, write_value},
};

const NAME: &str = "build";

/// A build, as far as its data path goes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Build {
    /// The controller's version.
    pub version: String,
    /// The first 64 bits of the eBPF object's BLAKE2s digest, in hexadecimal. Builds with equal objects have the
    /// same data path.
    pub object: String,
}

impl Build {
    /// The running build.
    pub fn own() -> Self {
        Stored::own().into()
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object.get(..8).unwrap_or(&self.object);
        write!(f, "{} ({object})", self.version)
    }
}

/// Hashes the object, if that was not done yet.
pub(super) fn find() {
    Stored::own();
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Stored {
    digest: u64,
    /// UTF-8, padded with zeros.
    version: [u8; 24],
}

// SAFETY: `repr(C)`, a u64 and three times its size in bytes: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Stored {}

impl Stored {
    /// The running build's. Hashing the object takes milliseconds.
    fn own() -> Self {
        static OWN: LazyLock<Stored> = LazyLock::new(Stored::of_object);
        *OWN
    }

    fn of_object() -> Self {
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
pub(crate) fn write_build(path: &Path) -> Result<(), DatapathError> {
    write_value(path, NAME, Stored::own())
}

/// Reads the build pinned at `path`; `None` where an older build attached the interface, which pinned none.
pub(crate) fn read_build(path: &Path) -> Result<Option<Build>, DatapathError> {
    if !path.exists() {
        return Ok(None);
    }
    read_value::<Stored>(path, NAME).map(|stored| Some(stored.into()))
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
