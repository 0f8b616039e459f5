//! The farm as one host sees it, for logs, `tfo status`, `/healthz` and metrics.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::{phase::Position, verdict::Verdict};
use crate::{
    datapath::{ControllerLock, Namespace},
    model::EdgeService,
};

/// The farm as one of its hosts sees it. It holds no key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FarmReport {
    /// This host's name in the farm.
    pub host: String,
    /// The prefix of the farm's keys in etcd.
    pub prefix: String,
    /// etcd answers.
    pub reachable: bool,
    /// The time at which `reachable` last changed.
    pub since: Option<SystemTime>,
    /// The progress of the farm, by the document that this host has stored.
    #[serde(rename = "place")]
    pub position: Option<Position>,
    /// This host has that document in force and has told etcd so.
    pub acknowledged: bool,
    /// This host's clock minus the writer's time in the document, in seconds: the clock skew, and the delay of the
    /// document.
    pub skew: Option<f64>,
    /// This host is the leader.
    pub leads: bool,
    /// On the leader: the number of members, and of those that have not acknowledged.
    pub members: Option<[usize; 2]>,
    /// Hosts that this one left behind as the leader, since its process started.
    pub left_behind: u64,
    /// Sessions with etcd that failed since the process started.
    pub failures: u64,
    /// Values in etcd that this host ignored or undid since the process started: no host of the farm wrote them, or
    /// they are of an earlier state of the farm.
    #[serde(default)]
    pub ignored: u64,
    /// On an edge: whether hosts take the answers to its challenges.
    #[serde(default)]
    pub edges: BTreeMap<EdgeService, Verdict>,
    /// The present error.
    pub error: Option<String>,
}

impl fmt::Display for FarmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, prefix, .. } = self;
        match self.position {
            Some(position) => write!(f, "{host} of {prefix}, {position}")?,
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

/// The file by which a network namespace's controller shows its report to other processes. Removed on drop.
pub(crate) struct PublishedReport {
    path: PathBuf,
    last: Option<FarmReport>,
}

impl PublishedReport {
    /// `cookie` identifies the namespace: `SO_NETNS_COOKIE`.
    pub(crate) fn new(cookie: u64) -> Self {
        Self {
            path: path(cookie),
            last: None,
        }
    }

    /// Writes the report if it changed.
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

impl Drop for PublishedReport {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The report of the namespace's controller; `None` where none runs, or it has no farm.
pub fn published(namespace: &Namespace) -> Option<FarmReport> {
    ControllerLock::of(namespace)?;
    serde_json::from_slice(&fs::read(path(namespace.cookie())).ok()?).ok()
}

fn path(cookie: u64) -> PathBuf {
    PathBuf::from(format!("/run/tfo/net{cookie}.farm"))
}

/// A report that the agent's task writes and others read.
#[derive(Clone, Default)]
pub(super) struct SharedReport(Arc<Mutex<FarmReport>>);

impl SharedReport {
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

/// `time` in whole milliseconds.
pub(super) fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}
