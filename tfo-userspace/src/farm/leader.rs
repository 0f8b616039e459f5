//! The task of the elected leader: writes the next document when one is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use etcd_client::{EventType, WatchStream};
use tracing::{info, warn};

use super::{
    config::FarmConfig,
    decision::{Change, View},
    document::Document,
    error::FarmError,
    etcd::{FarmSnapshot, Preconditions, Store},
    phase::Phase,
    quiet::Quiet,
    report::{SharedReport, milliseconds},
    request::{Request, RequestKind, Timing},
    seal::ValueError,
    state_file::fresh_id,
};
use crate::{kernel::clock::Now, keys::Secret, model::random_key};

/// The clock skew between two hosts that retires no key early: a new leader relies on the time that the last leader
/// wrote.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// The document that this host has stored, where it is the one in etcd.
pub(super) struct HeldDocument<'a> {
    pub(super) document: &'a Document,
    /// Its revision in etcd.
    pub(super) revision: i64,
    /// The time at which this host stored the first document of its position, by [`Now::boot`].
    pub(super) since: Duration,
}

/// The leader's view of the farm.
pub(super) struct Leader {
    /// The key in etcd that exists for as long as this host leads.
    key: Vec<u8>,
    /// True once that key was removed.
    deposed: bool,
    /// The term's random identifier, and whether a document has opened it.
    term: String,
    opened: bool,
    view: FarmSnapshot,
    /// The ignored values that were reported.
    reported: u64,
    watch: WatchStream,
    /// Hosts that have not acknowledged a step: that step, and since when, by [`Now::boot`].
    late: BTreeMap<String, (u64, Duration)>,
    quiet: Quiet,
}

impl Leader {
    /// Reads the farm after the election. `key` exists in etcd for as long as this host leads.
    pub(super) async fn new(store: &mut Store, key: Vec<u8>) -> Result<Self, FarmError> {
        let view = store.read().await?;
        let watch = store.watch("", view.revision + 1).await?;
        info!("farm: this host leads");
        Ok(Self {
            key,
            deposed: false,
            term: fresh_id()?,
            opened: false,
            view,
            reported: 0,
            watch,
            late: BTreeMap::new(),
            quiet: Quiet::default(),
        })
    }

    /// `false` once somebody removed this host's key of the election.
    pub(super) const fn is_elected(&self) -> bool {
        !self.deposed
    }

    /// Waits until a key of the farm changes. Cancel safe.
    pub(super) async fn changed(&mut self, store: &Store) -> Result<(), FarmError> {
        let message = self.watch.message().await;
        let message = store.next_message(message)?;
        if message.canceled() {
            return Err(store
                .next_message::<()>(Ok(None))
                .expect_err("there is no message"));
        }
        self.deposed |= message.events().iter().any(|event| {
            let pair = event.kv().filter(|pair| pair.key() == self.key);
            event.event_type() == EventType::Delete && pair.is_some()
        });
        self.view.apply(store.codec(), &message);
        Ok(())
    }

    /// Writes the next document where one is due. `false` where this host no longer leads.
    pub(super) async fn act(
        &mut self,
        store: &mut Store,
        held: &HeldDocument<'_>,
        config: &FarmConfig,
        seal: Option<&Secret>,
        report: &SharedReport,
    ) -> Result<bool, FarmError> {
        // The view of the hosts must be as new as the document.
        let seen = self.view.document.as_ref();
        if seen.is_none_or(|document| document.revision != held.revision) {
            return Ok(self.is_elected());
        }
        let document = &held.document.head;
        if self.deposed || (self.opened && document.term != self.term) {
            return Ok(false);
        }
        self.opened |= document.term == self.term;
        self.drop_old(held.document);
        let now = Now::read();
        let overdue = self.overdue(held.document, config, now);
        let request = self.view.request.clone();
        let view = View {
            document: held.document,
            term: &self.term,
            host: &config.host,
            records: &self.view.hosts,
            request: request.as_ref().map(|request| &request.value),
            overdue: &overdue,
            due: is_due(
                held,
                request.as_ref().map(|it| &it.value),
                config.interval,
                now,
            ),
        };
        let late = view.late().count();
        report.change(|report| report.members = Some([document.members.len(), late]));
        let change = view.decide(random_key)?;
        if let Some(change) = change {
            let next = view.apply(change.clone(), milliseconds(now.wall));
            let fulfils = request.as_ref().filter(|_| view.fulfils(&change));
            let fulfils = fulfils.map(|request| request.revision);
            let text = next
                .write(seal)
                .map_err(|error| FarmError::document(&config.prefix, error))?;
            if self
                .write(store, held.revision, &text, &change, fulfils)
                .await?
            {
                describe(&change, &next, fulfils.is_some(), config, report);
            }
        }
        self.report_ignored(config, report, now);
        Ok(true)
    }

    /// Writes the next document in place of the one of a revision. `false` where something changed meanwhile.
    async fn write(
        &mut self,
        store: &mut Store,
        document: i64,
        text: &str,
        change: &Change,
        fulfils: Option<i64>,
    ) -> Result<bool, FarmError> {
        let forgets = match change {
            Change::Forget(host) => Some(host.as_str()),
            _ => None,
        };
        let preconditions = Preconditions {
            document,
            leader_key: &self.key,
        };
        let written = store.advance(text, &preconditions, fulfils, forgets);
        let written = written.await?;
        if !written {
            // What changed comes by the watch, unless this host's key was removed before the watch began.
            self.deposed |= !store.exists(&self.key).await?;
        }
        Ok(written)
    }

    /// Drops values that were put back: a request for an earlier state of the farm, records of another farm.
    fn drop_old(&mut self, document: &Document) {
        let head = &document.head;
        let old = |request: &Request| request.timing(head) == Timing::Never;
        if self.view.request.as_ref().is_some_and(|it| old(&it.value)) {
            self.view.request = None;
            self.view.ignore("request", ValueError::Replayed);
        }
        let foreign = |(name, farm): (&String, &String)| (*farm != head.farm).then(|| name.clone());
        let hosts = self.view.hosts.iter();
        let foreign: Vec<_> = hosts.filter_map(|it| foreign((it.0, &it.1.farm))).collect();
        for host in foreign {
            self.view.hosts.remove(&host);
            self.view
                .ignore(&format!("hosts/{host}"), ValueError::Replayed);
        }
    }

    /// Counts and names the values that were ignored since the last time.
    fn report_ignored(&mut self, config: &FarmConfig, report: &SharedReport, now: Now) {
        let more = self.view.ignored_count - self.reported;
        if more == 0 {
            return;
        }
        self.reported = self.view.ignored_count;
        report.change(|report| report.ignored += more);
        let Some((name, error)) = self.view.ignored.first_key_value() else {
            return;
        };
        let key = format!("{}{name}", config.prefix);
        let line = format!(
            "{key:?} in etcd is ignored: {error}; `tfo farm status` names the others, and `tfo_farm_ignored_values_total` counts them"
        );
        if self.quiet.allows(&line, now.boot) {
            warn!("farm: {line}");
        }
    }

    /// Members that have been late for longer than the farm's patience.
    fn overdue(&mut self, document: &Document, config: &FarmConfig, now: Now) -> BTreeSet<String> {
        let nobody = BTreeSet::new();
        let view = View {
            document,
            term: &self.term,
            host: &config.host,
            records: &self.view.hosts,
            request: None,
            overdue: &nobody,
            due: false,
        };
        let step = document.state.step();
        let late: BTreeSet<_> = view.late().cloned().collect();
        self.late
            .retain(|host, (of, _)| *of == step && late.contains(host));
        for host in late {
            self.late.entry(host).or_insert((step, now.boot));
        }
        let late = self.late.iter();
        let late = late.filter(|(_, (_, since))| now.boot.saturating_sub(*since) > config.patience);
        let late = late
            .map(|(host, _)| host)
            .filter(|host| **host != config.host);
        late.cloned().collect()
    }
}

/// `true` if a rotation is due, given that none is in progress.
pub(super) fn is_due(
    held: &HeldDocument<'_>,
    request: Option<&Request>,
    interval: Duration,
    now: Now,
) -> bool {
    let document = &held.document.head;
    let request = request.filter(|request| request.timing(document) == Timing::Now);
    let interval = match request.map(|request| &request.kind) {
        Some(RequestKind::RotateNow) => return true,
        // There is no previous key, so none is retired.
        Some(RequestKind::Rotate) if held.document.state.other.is_none() => return true,
        Some(RequestKind::Rotate) => interval / 2,
        Some(RequestKind::Revoke | RequestKind::Forget(_)) | None => interval,
    };
    // A leader that stored the document late relies on the writer's clock, less the skew.
    let written = Duration::from_millis(document.since);
    let by_wall = now.wall.saturating_sub(written + MAX_SKEW);
    now.boot.saturating_sub(held.since).max(by_wall) >= interval
}

/// Logs and counts a change that was written.
fn describe(
    change: &Change,
    next: &Document,
    fulfils: bool,
    config: &FarmConfig,
    report: &SharedReport,
) {
    let position = next.state.position;
    match change {
        Change::Open => info!("farm: {position}: opened a term; the hosts acknowledge anew"),
        Change::Admit(hosts) => {
            let hosts: Vec<_> = hosts.keys().map(String::as_str).collect();
            info!("farm: {position}: admitted {}", hosts.join(", "));
        }
        Change::Forget(host) => info!("farm: {position}: forgot {host}, as requested"),
        Change::LeaveBehind(hosts) => {
            for host in hosts {
                warn!(
                    "farm: host {host} has not acknowledged {position} for {} s: going on without it; if it still serves, it refuses cookies of the next key",
                    config.patience.as_secs()
                );
            }
            report.change(|report| report.left_behind += hosts.len() as u64);
        }
        Change::OwnCookies(Some(_)) => {
            info!("farm: all hosts take the same own cookies; hosts start to issue them");
        }
        Change::OwnCookies(None) => warn!(
            "farm: a host takes no own cookies, or by other rules: all hosts issue the kernel's; `tfo farm status` shows which"
        ),
        Change::Keys(_) => {
            let what = match position.phase {
                Phase::Activate if fulfils => "revoked all earlier keys, as requested",
                Phase::Activate => "all hosts accept the next key; hosts start to issue it",
                Phase::Steady => "all hosts issue the new key",
                Phase::Stage => "hosts start to accept the next key",
            };
            info!("farm: {position}: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::phase::FarmState, model::testing::key};

    #[test]
    fn a_clock_that_is_wrong_retires_no_key_early() {
        let second = Duration::from_secs(1);
        let interval = 100 * second;
        let state = FarmState::steady(2, key(2), Some(key(1)));
        let document = Document::first("f", state, 1_000_000, "web-1", "t");
        let held = HeldDocument {
            document: &document,
            revision: 1,
            since: 50 * second,
        };
        let due = |kind: Option<RequestKind>, wall: u32, boot: u32| {
            let now = Now {
                wall: wall * second,
                boot: boot * second,
            };
            let request = kind.map(|kind| Request::new(kind, &document.head));
            is_due(&held, request.as_ref(), interval, now)
        };
        // By CLOCK_BOOTTIME, where this host stored the document early.
        assert!(!due(None, 0, 149) && due(None, 0, 150));
        assert!(!due(None, 1159, 50) && due(None, 1160, 50));
        let rotate = || Some(RequestKind::Rotate);
        assert!(!due(rotate(), 0, 99) && due(rotate(), 0, 100));
        assert!(due(Some(RequestKind::RotateNow), 0, 50));
    }
}
