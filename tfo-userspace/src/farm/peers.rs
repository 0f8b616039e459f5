//! The guards of the farm's hosts, which an edge follows.
//!
//! A task of its own with a connection to etcd of its own: what goes wrong here leaves the keys alone. A host is known by what
//! it last wrote, until the farm has no such host any more: its pinned programs go on without its controller.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::warn;

use super::{
    config::FarmConfig,
    error::FarmError,
    etcd::{FarmSnapshot, Store},
    guard_record::Guards,
    pause::pause,
    quiet::Quiet,
    source::{InForce, Offer},
};
use crate::kernel::clock::Now;

/// The name of all hosts' records below the prefix.
const HOSTS: &str = "hosts/";
/// The longest pause before a new connection.
const RETRY: Duration = Duration::from_secs(2);

/// The guards of the hosts; `None` before etcd was read.
pub(super) type KnownGuards = Option<Arc<Guards>>;

/// The state of the task.
pub(super) struct Peers {
    config: FarmConfig,
    offered: watch::Receiver<Option<Offer>>,
    in_force: watch::Receiver<InForce>,
    known: watch::Sender<KnownGuards>,
    guards: Guards,
    quiet: Quiet,
}

impl Peers {
    /// Gives the task's state, and the receiver of what it learns.
    pub(super) fn new(
        config: FarmConfig,
        offered: watch::Receiver<Option<Offer>>,
        in_force: watch::Receiver<InForce>,
    ) -> (Self, watch::Receiver<KnownGuards>) {
        let (known, receiver) = watch::channel(None);
        let peers = Self {
            config,
            offered,
            in_force,
            known,
            guards: Guards::default(),
            quiet: Quiet::default(),
        };
        (peers, receiver)
    }

    /// Follows the hosts for as long as this one is an edge.
    pub(super) async fn run(mut self) {
        while self.in_force.wait_for(InForce::is_edge).await.is_ok() {
            if let Err(error) = Box::pin(self.session()).await {
                let line = error.to_string();
                if self.quiet.allows(&line, Now::read().boot) {
                    warn!("farm: {line}; the rules of edges stay as they are");
                }
            }
            pause(RETRY).await;
        }
    }

    /// One connection to etcd, until it breaks, or until this host is no edge any more.
    async fn session(&mut self) -> Result<(), FarmError> {
        let mut store = Store::connect(&self.config).await?;
        let mut view = store.read_all(HOSTS).await?;
        let mut watch = store.watch(HOSTS, view.revision + 1).await?;
        loop {
            self.learn(&view);
            tokio::select! {
                message = watch.message() => {
                    let message = store.next_message(message)?;
                    if message.canceled() {
                        return Ok(());
                    }
                    view.apply(store.codec(), &message);
                }
                offered = self.offered.changed() => if offered.is_err() {
                    return Ok(());
                },
                changed = self.in_force.changed() => {
                    if changed.is_err() || !self.in_force.borrow_and_update().is_edge() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes in what hosts of the farm wrote. A record that is gone or unreadable says nothing new.
    fn learn(&mut self, view: &FarmSnapshot) {
        let offered = self.offered.borrow_and_update();
        let Some(offer) = offered.as_ref() else {
            return;
        };
        for (host, record) in &view.hosts {
            if record.farm != offer.farm {
                continue;
            }
            match &record.guard {
                Some(guard) => drop(self.guards.insert(host.clone(), guard.clone())),
                None => drop(self.guards.remove(host)),
            }
        }
        self.guards.retain(|host, _| offer.hosts.contains(host));
        self.known.send_if_modified(|known| {
            let differs = known.as_deref() != Some(&self.guards);
            if differs {
                *known = Some(Arc::new(self.guards.clone()));
            }
            differs
        });
    }
}
