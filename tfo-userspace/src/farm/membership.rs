//! A host's part in its farm, as whoever keeps the keys sees it.

use std::future::pending;

use tokio::{runtime::Handle, sync::watch, task::AbortHandle};
use tracing::error;

use super::{
    FarmConfig, FarmError,
    agent::Agent,
    phase::Standing,
    report::{FarmReport, Shared},
    state::StateFile,
};
use crate::keys::Fingerprint;

/// What whoever keeps the keys says of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InForce {
    /// The step that is in force on both sides; `None` where it is none of the farm's.
    pub(crate) step: Option<u64>,
    /// The key that the kernel issues.
    pub(crate) primary: Option<Fingerprint>,
    /// What is wrong.
    pub(crate) error: Option<String>,
}

/// The end of whoever keeps the keys.
#[derive(Clone)]
pub(crate) struct Link {
    /// What is to be in force; `None` until there is a document.
    pub(crate) offered: watch::Receiver<Option<Standing>>,
    /// What is.
    pub(crate) in_force: watch::Sender<InForce>,
}

/// A host's part in its farm. It ends when this is dropped.
pub(crate) struct Farm {
    link: Link,
    report: Shared,
    task: AbortHandle,
}

impl Farm {
    /// Begins, with what is stored; etcd is asked by a task of `runtime`.
    ///
    /// # Errors
    ///
    /// [`FarmError`] where the seal cannot be read.
    pub(crate) fn start(config: FarmConfig, runtime: &Handle) -> Result<Self, FarmError> {
        let seal = config.seal()?;
        let (state, held, wrong) = StateFile::open(&config, seal.as_ref());
        if let Some(wrong) = wrong {
            error!("farm: {wrong}");
        }
        let report = Shared::default();
        report.change(|report| {
            report.host.clone_from(&config.host);
            report.prefix.clone_from(&config.prefix);
            report.place = held.as_ref().map(|held| held.standing.place);
        });
        let standing = held.as_ref().map(|held| held.standing.clone());
        let (offer, offered) = watch::channel(standing);
        let (in_force, has) = watch::channel(InForce::default());
        let agent = Agent::new(config, seal, (state, held), (offer, has), report.clone());
        let task = runtime.spawn(agent.run()).abort_handle();
        Ok(Self {
            link: Link { offered, in_force },
            report,
            task,
        })
    }

    /// The end of whoever keeps the keys.
    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    /// What there is to say.
    pub(crate) fn report(&self) -> FarmReport {
        self.report.get()
    }

    /// Waits until other keys are to be in force.
    pub(crate) async fn changed(&mut self) {
        if self.link.offered.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.task.abort();
    }
}
