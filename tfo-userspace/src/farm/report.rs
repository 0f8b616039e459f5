//! What a host says of its farm, for logs, `tfo status`, `/healthz` and metrics. It holds no key.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use tracing::debug;

use super::phase::Place;

/// The farm, as one of its hosts sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FarmReport {
    /// What this host is called.
    pub host: String,
    /// Where the farm's keys are in etcd.
    pub prefix: String,
    /// Whether etcd answers.
    pub reachable: bool,
    /// Since when it does, or does not.
    pub since: Option<SystemTime>,
    /// How far the farm has come, by the document that this host goes by.
    pub place: Option<Place>,
    /// Whether this host has that in force and said so.
    pub acknowledged: bool,
    /// This host's clock less that of the host which wrote the document, and how long it took to get here.
    pub skew: Option<f64>,
    /// Whether this host is the one that writes.
    pub leads: bool,
    /// Of the leader: how many members there are, and how many have yet to acknowledge.
    pub members: Option<[usize; 2]>,
    /// Hosts that this one, as the leader, left behind since its process began.
    pub left_behind: u64,
    /// Times that etcd could not be used, since the process began.
    pub failures: u64,
    /// What is wrong now.
    pub error: Option<String>,
}

impl fmt::Display for FarmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, prefix, .. } = self;
        match self.place {
            Some(place) => write!(f, "{host} of {prefix}, {place}")?,
            None => write!(f, "{host} of {prefix}, no document yet")?,
        }
        let since = self.since.and_then(|since| since.elapsed().ok());
        let since = since.map_or(0, |since| since.as_secs());
        match (&self.error, self.reachable) {
            (Some(error), false) => write!(f, "; without etcd for {since} s: {error}"),
            (Some(error), true) => write!(f, "; {error}"),
            (None, false) => write!(f, "; not connected to etcd yet"),
            (None, true) if self.leads => write!(f, "; leads"),
            (None, true) => Ok(()),
        }
    }
}

/// The report of a network namespace's controller, for other processes. Gone when it is dropped.
pub(crate) struct Published {
    path: PathBuf,
    last: Option<FarmReport>,
}

impl Published {
    /// That of the namespace with this cookie.
    pub(crate) fn new(cookie: u64) -> Self {
        Self {
            path: path(cookie),
            last: None,
        }
    }

    /// Says so, if it is something new.
    pub(crate) fn publish(&mut self, report: FarmReport) {
        if self.last.as_ref() == Some(&report) {
            return;
        }
        let next = self.path.with_extension("farm.next");
        let written = serde_json::to_vec(&report)
            .map_err(Into::into)
            .and_then(|text| fs::write(&next, text))
            .and_then(|()| fs::rename(&next, &self.path));
        if let Err(error) = written {
            debug!("{}: {error}", self.path.display());
        }
        self.last = Some(report);
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What the controller of the namespace with this cookie says of its farm; `None` where it has none.
pub fn published(cookie: u64) -> Option<FarmReport> {
    serde_json::from_slice(&fs::read(path(cookie)).ok()?).ok()
}

fn path(cookie: u64) -> PathBuf {
    PathBuf::from(format!("/run/tfo/net{cookie}.farm"))
}

/// One for the task that writes it and those that read it.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<FarmReport>>);

impl Shared {
    pub(super) fn get(&self) -> FarmReport {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut FarmReport)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, FarmReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
