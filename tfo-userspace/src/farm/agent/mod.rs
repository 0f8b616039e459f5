//! The task of each host of a farm. It reads documents from etcd, stores them, offers them to the keeper of the
//! keys, and acknowledges them once they are in force.
//!
//! Without etcd the keys stay as they are: no clock changes them.

mod documents;
mod own_record;
mod record;

use std::{future::pending, pin::pin, time::Duration};

use etcd_client::WatchStream;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info, warn};

use self::own_record::OwnRecord;
use super::{
    config::FarmConfig,
    document::{Document, DocumentHead},
    error::FarmError,
    etcd::{Candidate, LEASE_TIME, Store},
    leader::{HeldDocument, Leader},
    pause::pause,
    quiet::Quiet,
    report::SharedReport,
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
    /// The time at which this host stored the first document of that position, by [`Now::boot`].
    since: Duration,
    /// The revision of the document in etcd, where that is `held`.
    revision: Option<i64>,
    /// The challenge that the leader has to repeat in a document for a host that has stored none.
    /// New in each session: documents of earlier sessions may have been replaced unseen.
    challenge: Option<String>,
    /// The head of the document in etcd, where this host cannot take it before it is admitted.
    applied_to: Option<DocumentHead>,
    channels: AgentChannels,
    report: SharedReport,
    quiet: Quiet,
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
            challenge: None,
            applied_to: None,
            channels,
            report,
            quiet: Quiet::default(),
        }
    }

    /// Opens one session after the other, for ever.
    pub(super) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut logged = None;
        loop {
            let start = Instant::now();
            let ended = Box::pin(self.session()).await;
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
            pause(retry).await;
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

    /// One connection to etcd, until it breaks, or until this host has to begin anew.
    async fn session(&mut self) -> Result<(), FarmError> {
        (self.revision, self.applied_to) = (None, None);
        self.challenge = self.new_challenge()?;
        let mut store = Store::connect(&self.config).await?;
        self.ensure_unique_name(&mut store).await?;
        let mut lease = store.lease().await?;
        let mut record = OwnRecord::new(lease.id);
        let (mut documents, mut records) = self.follow(&mut store).await?;
        let candidate = Candidate {
            host: self.config.host.clone(),
        };
        let mut campaign = pin!(store.clone().campaign(candidate, lease.id));
        let mut leader: Option<Leader> = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish(&mut store, &mut record).await?;
            if let Some(leader) = &mut leader
                && !self.lead(&mut store, leader).await?
            {
                warn!(
                    "farm: another leader or an operator wrote a document: this host campaigns anew"
                );
                return Ok(());
            }
            // A host without a document can neither lead nor admit others.
            let campaigns = leader.is_none() && self.held.is_some();
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
                message = records.message() => {
                    let message = store.next_message(message)?;
                    record.handle_watch(&message);
                    if message.canceled() {
                        return Ok(());
                    }
                }
                _ = self.channels.in_force.changed() => {}
                changed = farm_changed => changed?,
                key = &mut campaign, if campaigns => {
                    leader = Some(Leader::new(&mut store, key?).await?);
                    self.report.change(|report| report.leads = true);
                }
                _ = tick.tick() => {
                    lease.keep().await?;
                    if self.held.is_none() && self.reload() {
                        // Begins anew, with what `tfo farm init` has stored meanwhile.
                        return Ok(());
                    }
                    self.restore_record(&mut store, &mut record).await?;
                }
                answer = lease.answers.message() => {
                    lease.handle_answer(store.next_message(answer)?.ttl())?;
                }
            }
        }
    }

    /// Handles the document in etcd, and watches it and this host's record from then on.
    async fn follow(&mut self, store: &mut Store) -> Result<(WatchStream, WatchStream), FarmError> {
        let (revision, document) = store.document().await?;
        let documents = store.watch("document", revision + 1).await?;
        let name = format!("hosts/{}", self.config.host);
        let records = store.watch(&name, revision + 1).await?;
        self.report_connected();
        self.handle_document(document, false);
        Ok((documents, records))
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

    /// `false` where this host no longer leads.
    async fn lead(&self, store: &mut Store, leader: &mut Leader) -> Result<bool, FarmError> {
        let (Some(document), Some(revision)) = (&self.held, self.revision) else {
            return Ok(leader.is_elected());
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
