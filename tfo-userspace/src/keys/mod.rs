//! Cookie keys: the pair that the kernel holds, its text, and how it changes hands.

mod file;
mod install;
mod pair;
mod report;

pub use file::{KeyFileError, read_file};
pub use install::{DataPath, InstallError, Kernel, Sysctl, import, install, rotate};
pub use pair::{Fingerprint, KeyPair, KeyTextError};
pub use report::KeyReport;
