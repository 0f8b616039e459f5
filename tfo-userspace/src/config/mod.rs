//! The configuration of the service: one TOML file, and flags that override its top level. All of it is checked before
//! any of it is applied.
//!
//! Every section of the file is parsed here, also those of policies, guards and farms: the folders that act on them
//! know neither TOML nor the position of a mistake in the file, and all sections share the checks of port numbers and
//! of text values.

mod error;
mod farm;
mod file;
mod guard;
mod interval;
mod key_source;
mod layer;
mod listeners;
mod load;
mod namespace;
mod own_cookies;
mod policy;
mod ports;
mod text;
mod values;

pub use error::ConfigError;
pub use interval::parse_interval;
pub use key_source::KeySourceConfig;
pub use layer::{DEFAULT_INTERVAL, Layer, SourceKind};
pub use listeners::PortListeners;
pub use load::{Config, ConfigSource, Flags, load_farm, load_policy};
pub use namespace::NamespaceConfig;
pub use own_cookies::{OwnCookieConfig, OwnSecretsConfig};
pub use policy::{MAX_LIMITED_SOURCES, PortPolicySection};
pub use values::{Parsed, Withhold};

#[cfg(test)]
mod tests;
