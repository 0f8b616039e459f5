//! Cookie keys: the pair that the kernel holds, its text, where pairs come from, and how they change
//! hands.

mod install;
mod keeper;
mod pair;
mod report;
mod schedule;
mod source;

pub use install::{DataPath, InstallError, Kernel, Sysctl, import, install, rotate};
pub use keeper::{Found, Host, Keeper};
pub use pair::{Fingerprint, KeyPair, KeyTextError};
pub use report::KeyReport;
pub use schedule::{Plan, RandomSchedule, SecretSchedule};
pub use source::{KeyFileError, OnForeignChange, Secret, SecretError, SourceConfig, read_file};

pub(crate) use install::random as random_key;
pub(crate) use source::read_private;

#[cfg(test)]
pub(crate) mod tests;
