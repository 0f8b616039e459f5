//! A host's membership in its farm: the task that talks to etcd, and the keys that it offers.

use std::future::pending;

use tokio::{runtime::Handle, task::AbortHandle};
use tracing::error;

use super::{
    agent::Agent,
    config::FarmConfig,
    error::FarmError,
    report::{FarmReport, SharedReport},
    source::{FarmSource, KeeperChannels, OwnCookiesTaken, channels},
    state_file::StateFile,
};
use crate::keys::GivenSecrets;

/// A host's membership. Dropping it ends the task; the host stays a member for the farm.
pub(crate) struct Membership {
    channels: KeeperChannels,
    report: SharedReport,
    task: AbortHandle,
}

impl Membership {
    /// Starts from the stored document, with a task of `runtime` that connects to etcd. `own_cookies` is what the host takes
    /// as far as is known.
    ///
    /// # Errors
    ///
    /// [`FarmError::File`] where the seal cannot be read.
    pub(crate) fn start(
        config: FarmConfig,
        own_cookies: OwnCookiesTaken,
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
        let (agent, keeper) = channels(held.as_ref(), own_cookies);
        let agent = Agent::new(config, seal, (state_file, held), agent, report.clone());
        Ok(Self {
            channels: keeper,
            report,
            task: runtime.spawn(agent.run()).abort_handle(),
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
        self.task.abort();
    }
}
