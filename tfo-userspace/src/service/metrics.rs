//! The service's metrics. The facts of each namespace are read in a thread of its own.

use std::sync::{Arc, Mutex};

use tracing::{info, warn};

use super::worker::{WorkerHandle, lock};
use crate::{
    metrics::{self, ListenError, NamespaceFacts, ScrapeTarget, Server},
    model::ListenAddress,
};

/// The workers and ports that a scrape reads. Empty until the service has started.
#[derive(Clone, Default)]
pub(super) struct ScrapeList(Arc<Mutex<(Vec<WorkerHandle>, Vec<u16>)>>);

impl ScrapeList {
    pub(super) fn set(&self, workers: Vec<WorkerHandle>, ports: &[u16]) {
        *lock(&self.0) = (workers, ports.to_owned());
    }

    async fn facts(self) -> Vec<NamespaceFacts> {
        let (workers, ports) = lock(&self.0).clone();
        let mut facts = Vec::new();
        for worker in workers {
            let target = ScrapeTarget {
                netns: worker.name.clone(),
                interfaces: worker.interfaces(),
                ports: ports.clone(),
            };
            let read = match worker.scraper() {
                Some(scraper) => scraper.read(target.clone()).await,
                None => None,
            };
            facts.push(match read {
                Some(mut facts) => {
                    let state = worker.state();
                    facts.keys = Some(state.keys);
                    facts.policy_refused = state.policy_refused;
                    facts.guard_refused = state.guard_refused;
                    facts.farm = state.farm;
                    facts
                }
                None => metrics::unreadable(&target, &"the network namespace does not exist yet"),
            });
        }
        facts
    }
}

/// Serves metrics until the runtime ends. There is nothing to read before [`ScrapeList::set`].
///
/// # Errors
///
/// [`ListenError`].
pub(super) async fn serve(address: &ListenAddress) -> Result<ScrapeList, ListenError> {
    let server = Server::bind(address).await?;
    if let Ok(address) = server.address() {
        info!("metrics: serving at {address}");
        if address.is_public() {
            warn!(
                "metrics: anyone who can reach {address} can read them; restrict access with a firewall"
            );
        }
    }
    let list = ScrapeList::default();
    let facts = list.clone();
    tokio::spawn(server.serve(move || facts.clone().facts()));
    Ok(list)
}
