//! Temporary directories.

use std::{fs, path::PathBuf};

use anyhow::Result;

/// A temporary directory. Removed on drop.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A directory with this name in it, of this process alone.
    ///
    /// # Errors
    ///
    /// As mkdir(2).
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tfo-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The path of a file in it, which need not exist.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file, and gives its path.
    ///
    /// # Errors
    ///
    /// As open(2) and write(2).
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
