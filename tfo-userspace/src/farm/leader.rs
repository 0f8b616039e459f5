//! What the host that leads does besides: it writes the next document, when all have acknowledged the last.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{EventType, WatchStream};
use tracing::{info, warn};

use super::{
    FarmConfig, FarmError,
    document::Document,
    etcd::{Basis, Snapshot, Store, Wish},
    phase::{Phase, Standing},
    report::{Shared, millis},
};
use crate::{
    kernel::clock::Now,
    keys::{Secret, random_key},
};

/// How far the clocks of two hosts may be apart before a new leader, which goes by the time that the one
/// before wrote, retires a key too early.
const SKEW: Duration = Duration::from_secs(60);

/// The document that this host goes by, where it is the one in etcd.
pub(super) struct Held<'a> {
    pub(super) document: &'a Document,
    /// The revision at which it was written.
    pub(super) written: i64,
    /// When this host took it, by [`Now::boot`].
    pub(super) since: Duration,
}

/// The farm, as the leader sees it.
pub(super) struct Leader {
    key: Vec<u8>,
    prefix: String,
    view: Snapshot,
    watch: WatchStream,
    /// Hosts that have not acknowledged a step, with that, and since when by [`Now::boot`].
    late: BTreeMap<String, (u64, Duration)>,
}

impl Leader {
    /// Begins, once the election is won. `key` is there for as long as it holds.
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

    /// Waits until something changes in etcd. Nothing is lost where it is dropped.
    pub(super) async fn changed(&mut self, store: &Store) -> Result<(), FarmError> {
        let message = self.watch.message().await;
        let message = store.next(message)?;
        if message.canceled() {
            return Err(store.next::<()>(Ok(None)).expect_err("there is no message"));
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

    /// Takes the farm one step further, if it is time.
    pub(super) async fn act(
        &mut self,
        store: &mut Store,
        held: &Held<'_>,
        config: &FarmConfig,
        seal: Option<&Secret>,
        report: &Shared,
    ) -> Result<(), FarmError> {
        let standing = &held.document.standing;
        let now = Now::read();
        self.note_late(standing.step(), now);
        let hosts = &self.view.hosts;
        report.change(|report| report.members = Some([hosts.len(), self.late.len()]));
        // What was seen of the hosts has to be as new as the document.
        let seen = self.view.document.as_ref().map(|document| document.written);
        if seen != Some(held.written) || !hosts.contains_key(&config.host) {
            return Ok(());
        }
        let basis = Basis {
            document: held.written,
            leader: &self.key,
        };
        let request = self.view.request.as_ref();
        let wish = request.map(|request| request.value);
        let next = if wish == Some(Wish::Revoke) {
            Some(standing.revoke(random_key()?))
        } else {
            let steps = hosts.values().map(|record| record.value.step);
            standing.advance(steps, due(held, wish, config.interval, now), random_key)?
        };
        if let Some(next) = next {
            let begins = next.place.phase == Phase::Stage || wish == Some(Wish::Revoke);
            let fulfils = request.filter(|_| begins).map(|request| request.written);
            let farm = &held.document.head.farm;
            let next = Document::new(farm, next, millis(now.wall), &config.host);
            let text = next
                .write(seal)
                .map_err(|error| FarmError::document(config, error))?;
            if store.advance(&text, &basis, fulfils).await? {
                info!("farm: {}", describe(&next.standing, wish));
            }
            return Ok(());
        }
        for (host, (_, since)) in &self.late {
            if now.boot.saturating_sub(*since) > config.patience
                && let Some(record) = hosts.get(host)
                && store.leave(host, record, &basis).await?
            {
                warn!(
                    "farm: host {host} has not acknowledged {} for {} s: going on without it; where it serves, it refuses cookies from the next step on",
                    standing.place,
                    config.patience.as_secs()
                );
                report.change(|report| report.left_behind += 1);
            }
        }
        Ok(())
    }

    /// Notes who has yet to acknowledge `step`.
    fn note_late(&mut self, step: u64, now: Now) {
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

/// Whether a rotation is to begin, where none is under way.
fn due(held: &Held<'_>, wish: Option<Wish>, interval: Duration, now: Now) -> bool {
    let wanted = match wish {
        Some(Wish::RotateNow) => return true,
        // Nobody holds a cookie of a key that would be retired.
        Some(Wish::Rotate) if held.document.standing.other.is_none() => return true,
        Some(Wish::Rotate) => interval / 2,
        Some(Wish::Revoke) | None => interval,
    };
    // A leader that has not seen the beginning goes by the clock of who did, and lets it be wrong.
    let written = Duration::from_millis(held.document.head.since);
    let by_wall = now.wall.saturating_sub(written + SKEW);
    now.boot.saturating_sub(held.since).max(by_wall) >= wanted
}

fn describe(next: &Standing, wish: Option<Wish>) -> String {
    match (next.place.phase, wish) {
        (Phase::Activate, Some(Wish::Revoke)) => {
            format!("{}: revoked all keys before, as asked", next.place)
        }
        (Phase::Activate, _) => format!(
            "{}: all accept the next key, which is issued now",
            next.place
        ),
        (Phase::Steady, _) => format!("{}: all issue the new key", next.place),
        (Phase::Stage, _) => format!("{}: the next key is to be accepted", next.place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::phase::Place, keys::tests::key};

    #[test]
    fn a_clock_that_is_wrong_retires_no_key_early() {
        let second = Duration::from_secs(1);
        let interval = 100 * second;
        let standing = Standing {
            place: Place {
                epoch: 2,
                phase: Phase::Steady,
            },
            current: key(2),
            other: Some(key(1)),
        };
        let document = Document::new("f", standing, 1_000_000, "web-1");
        let held = Held {
            document: &document,
            written: 1,
            since: 50 * second,
        };
        let due = |wish, wall: u32, boot: u32| {
            let now = Now {
                wall: wall * second,
                boot: boot * second,
            };
            due(&held, wish, interval, now)
        };
        // By the clock that nobody sets, where this host has seen the beginning.
        assert!(!due(None, 0, 149) && due(None, 0, 150));
        assert!(!due(None, 1159, 50) && due(None, 1160, 50));
        assert!(!due(Some(Wish::Rotate), 0, 99) && due(Some(Wish::Rotate), 0, 100));
        assert!(due(Some(Wish::RotateNow), 0, 50));
    }
}
