//! Cookie keys: where they come from, when they change, and who changed them.
//!
//! The key pair itself is in [`crate::model`], the order in which kernel and data path take a new one in
//! [`crate::datapath::key_change`].

mod endpoints;
mod error;
mod given_secrets;
mod keeper;
mod own_secrets;
mod private_file;
mod report;
mod schedule;
mod secret;
mod source;
mod sources;
mod watched_file;

pub use endpoints::KeyEndpoints;
pub use error::{GivenSecretsError, KeyFileError, SecretError};
pub use given_secrets::GivenSecrets;
pub use keeper::{InitialKeys, Keeper, OnForeignChange};
pub use own_secrets::{OwnSecrets, has_given, is_due, own_secrets_left, ring_now};
pub(crate) use private_file::read_private_file;
pub use report::KeyReport;
pub use schedule::{KeyPlan, SecretSchedule};
pub use secret::Secret;
pub use source::{Authority, KeySource, SourceStart};
pub use sources::{FileSource, KernelSource, RandomSource, SecretSource, read_key_file};

#[cfg(test)]
mod tests;
