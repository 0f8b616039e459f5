//! A host's membership in its farm: the task that talks to etcd, and the keys that it offers.

use std::{collections::BTreeMap, future::pending, sync::Arc};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle};
use tracing::error;

use super::{
    agent::Agent,
    config::FarmConfig,
    error::FarmError,
    guard_record::{GuardRecord, Guards},
    peers::{KnownGuards, Peers},
    report::{FarmReport, SharedReport},
    source::{FarmSource, KeeperChannels, OwnCookiesTaken, channels},
    state_file::StateFile,
    verdict::Verdict,
};
use crate::{keys::GivenSecrets, model::EdgeService};

/// A host's membership. Dropping it ends the tasks; the host stays a member for the farm.
pub(crate) struct Membership {
    channels: KeeperChannels,
    report: SharedReport,
    guards: watch::Receiver<KnownGuards>,
    tasks: [AbortHandle; 2],
}

impl Membership {
    /// Starts from the stored document, with tasks of `runtime` that connect to etcd. `own_cookies` is what the host takes
    /// as far as is known, and `guard` what it has in force.
    ///
    /// # Errors
    ///
    /// [`FarmError::File`] where the seal cannot be read.
    pub(crate) fn start(
        config: FarmConfig,
        own_cookies: OwnCookiesTaken,
        guard: Option<GuardRecord>,
        runtime: &Handle,
    ) -> Result<Self, FarmError> {
        let seal = config.seal()?;
        let (state_file, held, problem) = StateFile::open(&config, seal.as_ref());
        if let Some(problem) = problem {
            error!("farm: {problem}");
        }
        let report = SharedReport::default();
        report.change(|report| {
            report.host.clone_from(&config.host);
            report.prefix.clone_from(&config.prefix);
            report.position = held.as_ref().map(|held| held.state.position);
        });
        let (agent, keeper) = channels(held.as_ref(), own_cookies, guard);
        let in_force = agent.in_force.clone();
        let (peers, guards) = Peers::new(config.clone(), keeper.offered.clone(), in_force);
        let agent = Agent::new(config, seal, (state_file, held), agent, report.clone());
        Ok(Self {
            channels: keeper,
            report,
            guards,
            tasks: [
                runtime.spawn(agent.run()).abort_handle(),
                runtime.spawn(peers.run()).abort_handle(),
            ],
        })
    }

    /// The farm's keys, for a [`crate::keys::Keeper`].
    pub(crate) fn source(&self) -> FarmSource {
        FarmSource::new(self.channels.clone())
    }

    /// The secrets of own cookies that this host is to take by rules with this digest, and the step that they are of; `None`
    /// where the farm has none.
    pub(crate) fn own_secrets(&self, rules: &str) -> Option<(u64, GivenSecrets)> {
        let offered = self.channels.offered.borrow();
        let offer = offered.as_ref().filter(|it| !it.state.secrets.is_empty())?;
        let issues = offer.own_cookies.as_deref() == Some(rules);
        Some((offer.state.step(), offer.state.own_secrets(issues)))
    }

    /// Tells the farm which own cookies this host takes.
    pub(crate) fn report_own_cookies(&self, taken: OwnCookiesTaken) {
        self.channels
            .report(|in_force| in_force.own_cookies = taken);
    }

    /// Tells the farm which guard this host has in force.
    pub(crate) fn report_guard(&self, guard: GuardRecord) {
        self.channels
            .report(|in_force| in_force.guard = Some(guard));
    }

    /// The guards of the farm's hosts as they were last known; `None` before that, and where this host is no edge.
    pub(crate) fn guards(&self) -> Option<Arc<Guards>> {
        self.guards.borrow().clone()
    }

    /// Reports whether hosts take the answers to this edge's challenges.
    pub(crate) fn report_edges(&self, verdicts: &BTreeMap<EdgeService, Verdict>) {
        self.report
            .change(|report| report.edges.clone_from(verdicts));
    }

    /// The farm's state, as this host sees it.
    pub(crate) fn report(&self) -> FarmReport {
        self.report.get()
    }

    /// Waits until the farm offers other keys. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.channels.offered.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
