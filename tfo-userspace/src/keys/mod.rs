//! Cookie keys: where pairs come from, and when they change hands.

mod keeper;
mod report;
mod schedule;
mod source;

pub use keeper::{Found, Host, Keeper};
pub use report::KeyReport;
pub use schedule::{Plan, RandomSchedule, SecretSchedule};
pub use source::{KeyFileError, OnForeignChange, Secret, SecretError, SourceConfig, read_file};

// Until every importer names `model`.
pub(crate) use crate::model::random_key;
pub use crate::model::{Fingerprint, KeyPair, KeyTextError};
pub(crate) use source::read_private;

#[cfg(test)]
pub(crate) mod tests;
