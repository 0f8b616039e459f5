//! Keys derived from a secret in a file.

use std::{path::PathBuf, time::Duration};

use crate::{
    kernel::clock::Now,
    keys::{
        schedule::{KeyPlan, SecretSchedule},
        secret::Secret,
        source::{KeySource, SourceStart},
        watched_file::WatchedFile,
    },
    model::KeyPair,
};

/// Keys derived from a secret and the clock: the same on every host that has the secret.
pub struct SecretSource {
    file: WatchedFile,
    secret: Option<Secret>,
    schedule: SecretSchedule,
}

impl SecretSource {
    /// `path` is the secret's file, `interval` the time for which a key is primary, in whole seconds.
    pub fn new(path: PathBuf, interval: Duration, start: &SourceStart) -> Self {
        Self {
            file: WatchedFile::new(path),
            secret: None,
            schedule: SecretSchedule::new(interval, start.last_primary, start.now),
        }
    }
}

impl KeySource for SecretSource {
    fn name(&self) -> &'static str {
        "secret"
    }

    fn refresh(&mut self) -> Result<(), String> {
        let read = self.file.read_if_changed(Secret::read);
        if let Some(secret) = read.map_err(|error| error.to_string())? {
            self.secret = Some(secret);
        }
        Ok(())
    }

    fn plan(&self, now: Now, _kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String> {
        let secret = self.secret.as_ref();
        Ok(secret.map(|secret| self.schedule.plan(secret, now)))
    }

    fn installed(&mut self, _plan: &KeyPlan, now: Now) {
        if let Some(secret) = &self.secret {
            self.schedule.installed(secret, now);
        }
    }

    fn next_change(&self, now: Now) -> Option<Duration> {
        Some(now.boot + self.schedule.until_next(now))
    }
}
