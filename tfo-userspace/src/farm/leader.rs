//! The task of the elected leader: writes the next document once every member has acknowledged the present one.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{EventType, WatchStream};
use tracing::{info, warn};

use super::{
    config::FarmConfig,
    document::Document,
    error::FarmError,
    etcd::{FarmSnapshot, Preconditions, Request, Store},
    phase::{FarmState, Phase},
    report::{SharedReport, milliseconds},
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
    /// The time at which this host stored it, by [`Now::boot`].
    pub(super) since: Duration,
}

/// The leader's view of the farm.
pub(super) struct Leader {
    /// The key in etcd that exists for as long as this host leads.
    key: Vec<u8>,
    prefix: String,
    view: FarmSnapshot,
    watch: WatchStream,
    /// Hosts that have not acknowledged a step: that step, and since when, by [`Now::boot`].
    late: BTreeMap<String, (u64, Duration)>,
}

impl Leader {
    /// Reads the farm after the election. `key` exists in etcd for as long as this host leads.
    pub(super) async fn new(
        store: &mut Store,
        config: &FarmConfig,
        key: Vec<u8>,
    ) -> Result<Self, FarmError> {
        let view = store.read().await?;
        let watch = store.watch("", view.revision + 1).await?;
        info!("farm: this host leads");
        Ok(Self {
            key,
            prefix: config.prefix.clone(),
            view,
            watch,
            late: BTreeMap::new(),
        })
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
        for event in message.events() {
            let Some(pair) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => self.view.put(&self.prefix, pair),
                EventType::Delete => self.view.delete(&self.prefix, pair),
            }
        }
        Ok(())
    }

    /// Writes the next document where one is due; leaves late hosts behind.
    pub(super) async fn act(
        &mut self,
        store: &mut Store,
        held: &HeldDocument<'_>,
        config: &FarmConfig,
        seal: Option<&Secret>,
        report: &SharedReport,
    ) -> Result<(), FarmError> {
        let state = &held.document.state;
        let now = Now::read();
        self.update_late(state.step(), now);
        let hosts = &self.view.hosts;
        report.change(|report| report.members = Some([hosts.len(), self.late.len()]));
        // The view of the hosts must be as new as the document.
        let seen = self.view.document.as_ref();
        let is_current = seen.is_some_and(|document| document.revision == held.revision);
        if !is_current || !hosts.contains_key(&config.host) {
            return Ok(());
        }
        let preconditions = Preconditions {
            document: held.revision,
            leader_key: &self.key,
        };
        let stored_request = self.view.request.as_ref();
        let request = stored_request.map(|request| request.value);
        let next = if request == Some(Request::Revoke) {
            Some(state.revoke(random_key()?))
        } else {
            let steps = hosts.values().map(|record| record.value.step);
            let due = is_due(held, request, config.interval, now);
            state.advance(steps, due, random_key)?
        };
        if let Some(next) = next {
            let begins = next.position.phase == Phase::Stage || request == Some(Request::Revoke);
            let fulfils = stored_request.filter(|_| begins).map(|it| it.revision);
            let farm = &held.document.head.farm;
            let next = Document::new(farm, next, milliseconds(now.wall), &config.host);
            let text = next
                .write(seal)
                .map_err(|error| FarmError::document(&config.prefix, error))?;
            if store.advance(&text, &preconditions, fulfils).await? {
                info!("farm: {}", describe(&next.state, request));
            }
            return Ok(());
        }
        for host in self.overdue(config.patience, now) {
            if let Some(record) = hosts.get(host)
                && store.leave_behind(host, record, &preconditions).await?
            {
                warn!(
                    "farm: host {host} has not acknowledged {} for {} s: going on without it; if it still serves, it refuses cookies of the next key",
                    state.position,
                    config.patience.as_secs()
                );
                report.change(|report| report.left_behind += 1);
            }
        }
        Ok(())
    }

    /// Hosts that have been late for longer than `patience`.
    fn overdue(&self, patience: Duration, now: Now) -> impl Iterator<Item = &String> {
        let late = self.late.iter();
        let late = late.filter(move |(_, (_, since))| now.boot.saturating_sub(*since) > patience);
        late.map(|(host, _)| host)
    }

    /// Updates `late` for `step`.
    fn update_late(&mut self, step: u64, now: Now) {
        let hosts = &self.view.hosts;
        let is_late = |host: &String| {
            let record = hosts.get(host);
            record.is_some_and(|record| record.value.step != Some(step))
        };
        self.late
            .retain(|host, (of, _)| *of == step && is_late(host));
        for host in hosts.keys().filter(|host| is_late(host)) {
            let late = self.late.entry(host.clone());
            late.or_insert((step, now.boot));
        }
    }
}

/// `true` if a rotation is due, given that none is in progress.
fn is_due(held: &HeldDocument<'_>, request: Option<Request>, interval: Duration, now: Now) -> bool {
    let interval = match request {
        Some(Request::RotateNow) => return true,
        // There is no previous key, so none is retired.
        Some(Request::Rotate) if held.document.state.other.is_none() => return true,
        Some(Request::Rotate) => interval / 2,
        Some(Request::Revoke) | None => interval,
    };
    // A leader that stored the document late relies on the writer's clock, less the skew.
    let written = Duration::from_millis(held.document.head.since);
    let by_wall = now.wall.saturating_sub(written + MAX_SKEW);
    now.boot.saturating_sub(held.since).max(by_wall) >= interval
}

fn describe(next: &FarmState, request: Option<Request>) -> String {
    match (next.position.phase, request) {
        (Phase::Activate, Some(Request::Revoke)) => {
            format!("{}: revoked all earlier keys, as requested", next.position)
        }
        (Phase::Activate, _) => format!(
            "{}: all hosts accept the next key; hosts start to issue it",
            next.position
        ),
        (Phase::Steady, _) => format!("{}: all hosts issue the new key", next.position),
        (Phase::Stage, _) => format!("{}: hosts start to accept the next key", next.position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::phase::Position, model::testing::key};

    #[test]
    fn a_clock_that_is_wrong_retires_no_key_early() {
        let second = Duration::from_secs(1);
        let interval = 100 * second;
        let state = FarmState {
            position: Position {
                epoch: 2,
                phase: Phase::Steady,
            },
            current: key(2),
            other: Some(key(1)),
        };
        let document = Document::new("f", state, 1_000_000, "web-1");
        let held = HeldDocument {
            document: &document,
            revision: 1,
            since: 50 * second,
        };
        let due = |request, wall: u32, boot: u32| {
            let now = Now {
                wall: wall * second,
                boot: boot * second,
            };
            is_due(&held, request, interval, now)
        };
        // By CLOCK_BOOTTIME, where this host stored the document early.
        assert!(!due(None, 0, 149) && due(None, 0, 150));
        assert!(!due(None, 1159, 50) && due(None, 1160, 50));
        assert!(!due(Some(Request::Rotate), 0, 99) && due(Some(Request::Rotate), 0, 100));
        assert!(due(Some(Request::RotateNow), 0, 50));
    }
}
