//! The text of a configuration file, for errors with a line number.

use std::{fs, ops::Range, path::Path};

use serde::de::DeserializeOwned;

use super::error::ConfigError;

/// The text of a configuration, and the file that it is from.
pub(super) struct ConfigText<'a> {
    pub(super) text: &'a str,
    /// `None` for flags alone.
    pub(super) path: Option<&'a Path>,
}

impl ConfigText<'_> {
    /// Deserializes the text.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text)
            .map_err(|error| self.error(error.span(), error.message().replace('\n', ", ")))
    }

    /// A [`ConfigError::Invalid`] for the bytes `at` of the text.
    pub(super) fn error(&self, at: Option<Range<usize>>, message: String) -> ConfigError {
        let place = match (self.path, at) {
            (Some(path), Some(at)) => {
                let before = self.text.get(..at.start).unwrap_or(self.text);
                let line = 1 + before.matches('\n').count();
                format!("{}:{line}", path.display())
            }
            (Some(path), None) => path.display().to_string(),
            (None, _) => "command line".to_owned(),
        };
        ConfigError::Invalid { place, message }
    }
}

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}
