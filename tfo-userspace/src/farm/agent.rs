//! The task of each host of a farm. It reads documents from etcd, stores them, offers them to the keeper of the
//! keys, and acknowledges them once they are in force.
//!
//! Without etcd the keys stay as they are: no clock changes them.

use std::{future::pending, pin::pin, time::Duration};

use etcd_client::WatchResponse;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use super::{
    config::FarmConfig,
    document::Document,
    error::FarmError,
    etcd::{Candidate, HostRecord, LEASE_TIME, Store, Versioned},
    leader::{HeldDocument, Leader},
    report::{SharedReport, milliseconds},
    source::AgentChannels,
    state_file::StateFile,
};
use crate::{kernel::clock::Now, keys::Secret};

/// The interval at which the leader checks what is due, and the lease is kept alive.
const TICK: Duration = Duration::from_secs(1);
/// The pause before a new connection: the first, and the longest after repeated errors.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The state of the task.
pub(super) struct Agent {
    config: FarmConfig,
    seal: Option<Secret>,
    state_file: StateFile,
    /// The stored document, which this host follows.
    held: Option<Document>,
    /// The time at which `held` was stored, by [`Now::boot`].
    since: Duration,
    /// The revision of the document in etcd, where that is `held`.
    revision: Option<i64>,
    channels: AgentChannels,
    report: SharedReport,
}

impl Agent {
    /// `held` is the document in the state file.
    pub(super) fn new(
        config: FarmConfig,
        seal: Option<Secret>,
        (state_file, held): (StateFile, Option<Document>),
        channels: AgentChannels,
        report: SharedReport,
    ) -> Self {
        Self {
            config,
            seal,
            state_file,
            held,
            since: Now::read().boot,
            revision: None,
            channels,
            report,
        }
    }

    /// Opens one session after the other, for ever.
    pub(super) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut logged = None;
        loop {
            let start = Instant::now();
            let ended = self.session().await;
            self.report.change(|report| {
                (report.leads, report.members, report.acknowledged) = (false, None, false);
            });
            if start.elapsed() > LEASE_TIME {
                (retry, logged) = (FIRST_RETRY, None);
            }
            if let Err(error) = ended {
                let text = error.to_string();
                self.report_unreachable(&text);
                if logged.as_ref() != Some(&text) {
                    error!("farm: {text}; the keys stay as they are");
                    logged = Some(text);
                }
            }
            // Jitter: the hosts of a farm must not reconnect all at once.
            let share = getrandom::u32().unwrap_or(u32::MAX);
            sleep(retry.mul_f64(0.5 + 0.5 * f64::from(share) / f64::from(u32::MAX))).await;
            retry = LAST_RETRY.min(retry * 2);
        }
    }

    fn report_unreachable(&self, error: &str) {
        self.report.change(|report| {
            if report.reachable || report.since.is_none() {
                report.since = Some(Now::read().wall_at(Now::read().boot));
            }
            report.reachable = false;
            report.failures += 1;
            report.error = Some(error.to_owned());
        });
    }

    /// One connection to etcd, until it breaks, or until this host has to register again.
    async fn session(&mut self) -> Result<(), FarmError> {
        self.revision = None;
        let mut store = Store::connect(&self.config).await?;
        self.ensure_unique_name(&mut store).await?;
        let mut lease = store.lease().await?;
        let Some(mut record) = self.register(&mut store).await? else {
            return Ok(());
        };
        // Read after registration: the farm does not go past this document without this host.
        let (revision, document) = store.document().await?;
        let mut documents = store.watch("document", revision + 1).await?;
        self.report_connected();
        self.handle_document(document, false);
        let candidate = Candidate {
            host: self.config.host.clone(),
        };
        let mut campaign = pin!(store.clone().campaign(candidate, lease.id));
        let mut leader: Option<Leader> = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.acknowledge(&mut store, &mut record, lease.id).await? {
                return Ok(());
            }
            if let Some(leader) = &mut leader {
                self.lead(&mut store, leader).await?;
            }
            let leads = leader.is_some();
            let farm_changed = async {
                match &mut leader {
                    Some(leader) => leader.changed(&store).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = documents.message() => {
                    let message = store.next_message(message)?;
                    self.handle_watch(&message);
                    if message.canceled() {
                        return Ok(());
                    }
                }
                _ = self.channels.in_force.changed() => {}
                changed = farm_changed => changed?,
                key = &mut campaign, if !leads => {
                    leader = Some(Leader::new(&mut store, &self.config, key?).await?);
                    self.report.change(|report| report.leads = true);
                }
                _ = tick.tick() => lease.keep().await?,
                answer = lease.answers.message() => {
                    lease.handle_answer(store.next_message(answer)?.ttl())?;
                }
            }
        }
    }

    /// Handles a message of the document's watch.
    fn handle_watch(&mut self, message: &WatchResponse) {
        let Some(last) = message.events().iter().rev().find_map(|event| event.kv()) else {
            return;
        };
        // A removed key has version 0.
        let document = (last.version() > 0).then(|| Versioned {
            value: last.value().to_vec(),
            revision: last.mod_revision(),
        });
        self.handle_document(document, true);
    }

    /// Fails where another live host has this host's name. Revokes the lease of this host's last session.
    async fn ensure_unique_name(&self, store: &mut Store) -> Result<(), FarmError> {
        let found = store.record(&self.config.host).await?;
        let Some(HostRecord {
            instance,
            lease: Some(lease),
            ..
        }) = found.map(|record| record.value)
        else {
            return Ok(());
        };
        if instance == self.state_file.instance {
            store.revoke_lease(lease).await;
        } else if store.is_lease_alive(lease).await? {
            return Err(FarmError::NameTaken(self.config.host.clone()));
        }
        Ok(())
    }

    /// Finds or writes this host's record; from then on, rotations wait for it. `None` where the record changed
    /// meanwhile.
    async fn register(
        &self,
        store: &mut Store,
    ) -> Result<Option<Versioned<HostRecord>>, FarmError> {
        let found = store.record(&self.config.host).await?;
        let revision = found.as_ref().map_or(0, |record| record.revision);
        let own = found.filter(|record| record.value.instance == self.state_file.instance);
        if let (Some(own), Some(_)) = (own, &self.held) {
            return Ok(Some(own));
        }
        let record = HostRecord {
            instance: self.state_file.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..HostRecord::default()
        };
        let put = store
            .put_record(&self.config.host, &record, revision)
            .await?;
        Ok(put.map(|revision| Versioned {
            value: record,
            revision,
        }))
    }

    fn report_connected(&self) {
        let now = Now::read();
        self.report.change(|report| {
            if !report.reachable {
                report.since = Some(now.wall_at(now.boot));
            }
            (report.reachable, report.error) = (true, None);
        });
        info!("farm: connected to etcd");
    }

    /// Accepts the document in etcd, or reports why not. `is_new` is whether it was written just now.
    fn handle_document(&mut self, document: Option<Versioned<Vec<u8>>>, is_new: bool) {
        self.revision = None;
        let result = match document {
            None => Err(FarmError::NoDocument(self.config.prefix.clone())),
            Some(Versioned { value, revision }) => self
                .accept(&value, is_new)
                .map(|()| self.revision = Some(revision)),
        };
        let problem = result.err().map(|problem| problem.to_string());
        let position = self.held.as_ref().map(|held| held.state.position);
        self.report.change(|report| {
            if let Some(problem) = &problem
                && report.error.as_ref() != Some(problem)
            {
                error!("farm: {problem}; the keys stay as they are");
            }
            report.error = problem;
            report.position = position;
        });
    }

    /// Stores a document and offers its keys, unless it is the one that is held.
    fn accept(&mut self, text: &[u8], is_new: bool) -> Result<(), FarmError> {
        let document = Document::read(text, self.seal.as_ref())
            .map_err(|error| FarmError::document(&self.config.prefix, error))?;
        let held = self.held.as_ref();
        if held.is_some_and(|held| held.head.farm != document.head.farm) {
            return Err(FarmError::OtherFarm {
                prefix: self.config.prefix.clone(),
                state: self.state_file.path().to_owned(),
            });
        }
        let now = Now::read();
        if is_new && document.head.writer != self.config.host {
            let skew = milliseconds(now.wall).cast_signed() - document.head.since.cast_signed();
            #[allow(
                clippy::cast_precision_loss,
                reason = "clocks differ by less than 2^53 ms"
            )]
            let skew = skew as f64 / 1000.0;
            self.report.change(|report| report.skew = Some(skew));
        }
        let replaces = document
            .state
            .replaces(held.map(|held| &held.state))
            .map_err(|error| FarmError::OutOfSequence {
                prefix: self.config.prefix.clone(),
                error,
            })?;
        if replaces {
            // Versioned before it can come into force: an acknowledged document must survive a crash.
            let text = str::from_utf8(text).unwrap_or_default();
            self.state_file.write(Some(text))?;
            self.since = now.boot;
            self.channels
                .offer
                .send_replace(Some(document.state.clone()));
            self.held = Some(document);
        }
        Ok(())
    }

    /// Writes to this host's record what is in force. `false` where somebody else changed the record.
    async fn acknowledge(
        &mut self,
        store: &mut Store,
        record: &mut Versioned<HostRecord>,
        lease: i64,
    ) -> Result<bool, FarmError> {
        let in_force = self.channels.in_force.borrow_and_update().clone();
        let held = self.held.as_ref().filter(|_| self.revision.is_some());
        let step = held.map(|held| held.state.step());
        let acknowledged = step.is_some() && in_force.step == step;
        let report = self.report.get();
        let mut new = record.value.clone();
        if acknowledged {
            new.step = step;
        }
        env!("CARGO_PKG_VERSION").clone_into(&mut new.version);
        new.lease = Some(lease);
        new.primary = in_force.primary.map(|primary| primary.to_string());
        new.error = in_force.error.or(report.error);
        // The skew differs every time: it is written along with other changes, not on its own.
        if new != record.value {
            new.skew = report.skew;
            let put = store
                .put_record(&self.config.host, &new, record.revision)
                .await?;
            let Some(revision) = put else {
                warn!(
                    "farm: this host was left behind by a rotation or removed from the farm: it registers again"
                );
                return Ok(false);
            };
            *record = Versioned {
                value: new,
                revision,
            };
        }
        self.report
            .change(|report| report.acknowledged = acknowledged);
        Ok(true)
    }

    async fn lead(&self, store: &mut Store, leader: &mut Leader) -> Result<(), FarmError> {
        let (Some(document), Some(revision)) = (&self.held, self.revision) else {
            return Ok(());
        };
        let held = HeldDocument {
            document,
            revision,
            since: self.since,
        };
        let (config, seal) = (&self.config, self.seal.as_ref());
        leader.act(store, &held, config, seal, &self.report).await
    }
}
