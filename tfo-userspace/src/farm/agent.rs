//! What a host of a farm does, for as long as its service runs: it takes documents from etcd, stores them,
//! hands them to whoever keeps the keys, and acknowledges them once they are in force.
//!
//! Without etcd, the keys stay as they are, and nothing is decided by a clock.

use std::{future::pending, pin::pin, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

use super::{
    FarmConfig, FarmError,
    document::Document,
    etcd::{Candidate, LEASE, Record, Store, Stored},
    leader::{Held, Leader},
    part::InForce,
    phase::Standing,
    report::{Shared, millis},
    state::StateFile,
};
use crate::{kernel::clock::Now, keys::Secret};

/// How often the leader looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How long etcd is left alone after an error, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// What the task has.
pub(super) struct Agent {
    config: FarmConfig,
    seal: Option<Secret>,
    state: StateFile,
    /// The document that this host goes by.
    held: Option<Document>,
    /// When it was taken, by [`Now::boot`].
    since: Duration,
    /// At which revision the document in etcd was written, where that is the one that is held.
    stored: Option<i64>,
    offer: watch::Sender<Option<Standing>>,
    has: watch::Receiver<InForce>,
    report: Shared,
}

impl Agent {
    /// Goes on with what is stored, and speaks through these two channels.
    pub(super) fn new(
        config: FarmConfig,
        seal: Option<Secret>,
        (state, held): (StateFile, Option<Document>),
        (offer, has): (watch::Sender<Option<Standing>>, watch::Receiver<InForce>),
        report: Shared,
    ) -> Self {
        Self {
            config,
            seal,
            state,
            held,
            since: Now::read().boot,
            stored: None,
            offer,
            has,
            report,
        }
    }

    /// Goes from one session to the next.
    pub(super) async fn run(mut self) {
        let [mut retry, most] = RETRY;
        let mut told = None;
        loop {
            let start = Instant::now();
            let ended = self.session().await;
            self.report.change(|report| {
                (report.leads, report.members, report.acknowledged) = (false, None, false);
            });
            if start.elapsed() > LEASE {
                (retry, told) = (RETRY[0], None);
            }
            if let Err(problem) = ended {
                let text = problem.to_string();
                self.unreachable(&text);
                if told.as_ref() != Some(&text) {
                    error!("farm: {text}; the keys stay as they are");
                    told = Some(text);
                }
            }
            // A whole farm does not come back at one moment.
            let share = getrandom::u32().unwrap_or(u32::MAX);
            sleep(retry.mul_f64(0.5 + 0.5 * f64::from(share) / f64::from(u32::MAX))).await;
            retry = most.min(retry * 2);
        }
    }

    fn unreachable(&self, error: &str) {
        self.report.change(|report| {
            if report.reachable || report.since.is_none() {
                report.since = Some(Now::read().wall_at(Now::read().boot));
            }
            report.reachable = false;
            report.failures += 1;
            report.error = Some(error.to_owned());
        });
    }

    /// One connection, until it breaks, or until this host's record has to be made anew.
    async fn session(&mut self) -> Result<(), FarmError> {
        self.stored = None;
        let mut store = Store::connect(&self.config).await?;
        self.ensure_alone(&mut store).await?;
        let mut lease = store.lease().await?;
        let Some(mut record) = self.register(&mut store).await? else {
            return Ok(());
        };
        // After the record is there: whatever comes after this document waits for this host.
        let (revision, document) = store.document().await?;
        let mut documents = store.watch("document", revision + 1).await?;
        self.reachable();
        self.consider(document, false);
        let me = Candidate {
            host: self.config.host.clone(),
        };
        let mut campaign = pin!(store.clone().campaign(me, lease.id));
        let mut leader: Option<Leader> = None;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.acknowledge(&mut store, &mut record, lease.id).await? {
                return Ok(());
            }
            if let Some(leader) = &mut leader {
                self.lead(&mut store, leader).await?;
            }
            let leads = leader.is_some();
            let news = async {
                match &mut leader {
                    Some(leader) => leader.changed(&store).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = documents.message() => {
                    let message = store.next(message)?;
                    let last = message.events().iter().rev().find_map(|event| event.kv());
                    // Of a key that was removed, nothing is left.
                    let document = last.filter(|it| it.version() > 0).map(|it| Stored {
                        value: it.value().to_vec(),
                        written: it.mod_revision(),
                    });
                    if last.is_some() {
                        self.consider(document, true);
                    }
                    if message.canceled() {
                        return Ok(());
                    }
                }
                _ = self.has.changed() => {}
                news = news => news?,
                key = &mut campaign, if !leads => {
                    leader = Some(Leader::new(&mut store, &self.config, key?).await?);
                    self.report.change(|report| report.leads = true);
                }
                _ = look.tick() => lease.keep().await?,
                answer = lease.answers.message() => lease.heard(store.next(answer)?.ttl())?,
            }
        }
    }

    /// Makes sure that no other host has this one's name, and ends what a former session of this one left.
    async fn ensure_alone(&self, store: &mut Store) -> Result<(), FarmError> {
        let found = store.record(&self.config.host).await?;
        let Some(Record {
            instance,
            lease: Some(lease),
            ..
        }) = found.map(|record| record.value)
        else {
            return Ok(());
        };
        if instance == self.state.instance {
            store.end_lease(lease).await;
        } else if store.is_alive(lease).await? {
            return Err(FarmError::NameTaken(self.config.host.clone()));
        }
        Ok(())
    }

    /// Finds this host's record, or makes one: from then on, rotations wait for it. `None` where someone
    /// else is making one.
    async fn register(&self, store: &mut Store) -> Result<Option<Stored<Record>>, FarmError> {
        let found = store.record(&self.config.host).await?;
        let written = found.as_ref().map_or(0, |record| record.written);
        let own = found.filter(|record| record.value.instance == self.state.instance);
        if let (Some(own), Some(_)) = (own, &self.held) {
            return Ok(Some(own));
        }
        let record = Record {
            instance: self.state.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Record::default()
        };
        let put = store
            .put_record(&self.config.host, &record, written)
            .await?;
        Ok(put.map(|written| Stored {
            value: record,
            written,
        }))
    }

    fn reachable(&self) {
        let now = Now::read();
        self.report.change(|report| {
            if !report.reachable {
                report.since = Some(now.wall_at(now.boot));
            }
            (report.reachable, report.error) = (true, None);
        });
        info!("farm: connected to etcd");
    }

    /// Takes the document, if it is one and the next. `arrives` where it was written just now.
    fn consider(&mut self, document: Option<Stored<Vec<u8>>>, arrives: bool) {
        self.stored = None;
        let result = match document {
            None => Err(FarmError::NoDocument(self.config.prefix.clone())),
            Some(Stored { value, written }) => self
                .take(&value, arrives)
                .map(|()| self.stored = Some(written)),
        };
        let problem = result.err().map(|problem| problem.to_string());
        let place = self.held.as_ref().map(|held| held.standing.place);
        self.report.change(|report| {
            if let Some(problem) = &problem
                && report.error.as_ref() != Some(problem)
            {
                error!("farm: {problem}; the keys stay as they are");
            }
            report.error = problem;
            report.place = place;
        });
    }

    fn take(&mut self, text: &[u8], arrives: bool) -> Result<(), FarmError> {
        let document = Document::read(text, self.seal.as_ref())
            .map_err(|error| FarmError::document(&self.config, error))?;
        let held = self.held.as_ref();
        if held.is_some_and(|held| held.head.farm != document.head.farm) {
            return Err(FarmError::OtherFarm {
                prefix: self.config.prefix.clone(),
                state: self.state.path().to_owned(),
            });
        }
        let now = Now::read();
        if arrives && document.head.writer != self.config.host {
            let skew = millis(now.wall).cast_signed() - document.head.since.cast_signed();
            #[allow(
                clippy::cast_precision_loss,
                reason = "clocks are not apart by so much"
            )]
            let skew = skew as f64 / 1000.0;
            self.report.change(|report| report.skew = Some(skew));
        }
        let replaces = document
            .standing
            .replaces(held.map(|held| &held.standing))
            .map_err(|error| FarmError::OutOfSequence {
                prefix: self.config.prefix.clone(),
                error,
            })?;
        if replaces {
            // Before it can be in force: what is acknowledged must not be forgotten.
            let text = str::from_utf8(text).unwrap_or_default();
            self.state.write(Some(text))?;
            self.since = now.boot;
            self.offer.send_replace(Some(document.standing.clone()));
            self.held = Some(document);
        }
        Ok(())
    }

    /// Says what is in force. `false` where someone else changed this host's record.
    async fn acknowledge(
        &mut self,
        store: &mut Store,
        record: &mut Stored<Record>,
        lease: i64,
    ) -> Result<bool, FarmError> {
        let has = self.has.borrow_and_update().clone();
        let held = self.held.as_ref().filter(|_| self.stored.is_some());
        let step = held.map(|held| held.standing.step());
        let acknowledged = step.is_some() && has.step == step;
        let report = self.report.get();
        let mut said = record.value.clone();
        if acknowledged {
            said.step = step;
        }
        env!("CARGO_PKG_VERSION").clone_into(&mut said.version);
        said.lease = Some(lease);
        said.primary = has.primary.map(|primary| primary.to_string());
        said.error = has.error.or(report.error);
        // Not a write of its own: it is told with the next acknowledgement.
        if said != record.value {
            said.skew = report.skew;
            let put = store
                .put_record(&self.config.host, &said, record.written)
                .await?;
            let Some(written) = put else {
                warn!(
                    "farm: a rotation went on without this host, or someone took it out: it joins again"
                );
                return Ok(false);
            };
            *record = Stored {
                value: said,
                written,
            };
        }
        self.report
            .change(|report| report.acknowledged = acknowledged);
        Ok(true)
    }

    async fn lead(&self, store: &mut Store, leader: &mut Leader) -> Result<(), FarmError> {
        let (Some(document), Some(written)) = (&self.held, self.stored) else {
            return Ok(());
        };
        let held = Held {
            document,
            written,
            since: self.since,
        };
        let (config, seal) = (&self.config, self.seal.as_ref());
        leader.act(store, &held, config, seal, &self.report).await
    }
}
