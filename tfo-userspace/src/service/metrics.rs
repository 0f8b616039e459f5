//! The service's metrics. The facts of each namespace are read in a thread of its own.

use std::sync::{Arc, Mutex};

use tracing::{info, warn};

use super::{mutex::lock, worker::WorkerHandle};
use crate::{
    kernel::netns,
    metrics::{self, ListenError, ScrapeTarget, Server, ServiceFacts},
    model::ListenAddress,
};

/// The workers and ports that a scrape reads.
#[derive(Clone, Default)]
pub(super) struct ScrapeList(Arc<Mutex<Scraped>>);

#[derive(Clone, Default)]
struct Scraped {
    workers: Vec<WorkerHandle>,
    ports: Vec<u16>,
    /// As in [`ServiceFacts`].
    starting: Option<[usize; 2]>,
}

impl ScrapeList {
    pub(super) fn set(&self, workers: Vec<WorkerHandle>, ports: &[u16]) {
        *lock(&self.0) = Scraped {
            workers,
            ports: ports.to_owned(),
            starting: None,
        };
    }

    /// The service has tried to attach in so many of all namespaces. [`Self::set`] ends the start.
    pub(super) fn set_starting(&self, tried: usize, all: usize) {
        lock(&self.0).starting = Some([tried, all]);
    }

    async fn facts(self) -> ServiceFacts {
        let Scraped {
            workers,
            ports,
            starting,
        } = lock(&self.0).clone();
        let mut namespaces = Vec::new();
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
            namespaces.push(match read {
                Some(mut facts) => {
                    let state = worker.state();
                    facts.keys = Some(state.keys);
                    facts.policy_refused = state.policy_refused;
                    facts.guard_refused = state.guard_refused;
                    facts.own_cookies_refused = state.own_cookies_refused;
                    facts.listeners_refused = state.listeners_refused;
                    facts.farm = state.farm;
                    facts.not_attached = state.missing;
                    facts
                }
                None => metrics::unreadable(&target, &"the network namespace does not exist yet"),
            });
        }
        ServiceFacts {
            starting,
            namespaces,
        }
    }
}

/// Serves metrics until the runtime ends. There is nothing to read before [`ScrapeList::set`].
///
/// # Errors
///
/// [`ListenError`].
pub(super) async fn serve(
    address: &ListenAddress,
    namespaces: usize,
) -> Result<ScrapeList, ListenError> {
    let server = Server::bind(address).await?;
    if let Ok(address) = server.address() {
        info!("metrics: serving at {address}{}", place(&address));
        if address.is_public() {
            warn!(
                "metrics: anyone who can reach {address} can read them; restrict access with a firewall"
            );
        }
    }
    let list = ScrapeList::default();
    list.set_starting(0, namespaces);
    let facts = list.clone();
    tokio::spawn(server.serve(move || facts.clone().facts()));
    Ok(list)
}

/// Where an IP address is: `--netns` has the service listen in another network namespace than the host's.
fn place(address: &ListenAddress) -> &'static str {
    let is_socket = matches!(address, ListenAddress::Unix(_));
    if is_socket || netns::is_that_of_init() != Some(false) {
        ""
    } else {
        ", in the network namespace that the service was started in and not in that of process 1"
    }
}
