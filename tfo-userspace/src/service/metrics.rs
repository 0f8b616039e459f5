//! The service's metrics. The facts of each namespace are read in a thread of its own, those of others than the service's own in
//! their processes.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tracing::{info, warn};

use super::{mutex::lock, netns::Place, worker::WorkerHandle};
use crate::{
    kernel::netns,
    metrics::{self, ListenError, NamespaceCounts, OtherFacts, Server, ServiceFacts},
    model::ListenAddress,
};

/// The namespaces and ports that a scrape reads.
#[derive(Clone, Default)]
pub(super) struct ScrapeList(Arc<Mutex<Listed>>);

#[derive(Clone, Default)]
struct Listed {
    /// The service's own namespace.
    own: Option<WorkerHandle>,
    /// The others.
    places: Vec<Place>,
    /// Namespaces that wait for a process, and those that are too many.
    others: [usize; 2],
    ports: Vec<u16>,
    /// As in [`ServiceFacts`].
    starting: Option<[usize; 2]>,
}

impl ScrapeList {
    pub(super) fn set(
        &self,
        own: Option<WorkerHandle>,
        places: Vec<Place>,
        others: [usize; 2],
        ports: &[u16],
    ) {
        *lock(&self.0) = Listed {
            own,
            places,
            others,
            ports: ports.to_owned(),
            starting: None,
        };
    }

    /// The service has tried to attach in so many of all namespaces. [`Self::set`] ends the start.
    pub(super) fn set_starting(&self, tried: usize, all: usize) {
        lock(&self.0).starting = Some([tried, all]);
    }

    async fn facts(self) -> ServiceFacts {
        let listed = lock(&self.0).clone();
        let mut facts = ServiceFacts {
            starting: listed.starting,
            counts: listed.counts(),
            ..ServiceFacts::default()
        };
        if let Some(own) = &listed.own {
            facts.namespaces.push(own.facts(listed.ports.clone()).await);
        }
        // All at once: each is read in its own process.
        let scraped = join_all(listed.places.iter().map(async |place| match place {
            Place::Process(_, handle) => handle.scrape(listed.ports.clone()).await,
            Place::Absent(..) => None,
        }));
        for (place, scraped) in listed.places.iter().zip(scraped.await) {
            let (target, reason) = match (place, scraped) {
                (_, Some(scraped)) => {
                    facts.others.push(OtherFacts {
                        metrics: scraped.metrics,
                        wrong: scraped.wrong,
                    });
                    continue;
                }
                (Place::Process(target, handle), None) => {
                    // It went, and the list is to be changed.
                    if handle.has_ended() {
                        continue;
                    }
                    (target, "its process does not answer")
                }
                (Place::Absent(target, reason), None) => (target, reason.as_str()),
            };
            facts.namespaces.push(metrics::unreadable(target, &reason));
        }
        facts
    }
}

impl Listed {
    fn counts(&self) -> NamespaceCounts {
        let own = self.own.iter().map(|own| !own.state().attached.is_empty());
        let places = self.places.iter().map(|place| match place {
            Place::Process(_, handle) => handle.is_attached(),
            Place::Absent(..) => false,
        });
        let (attached, waiting): (Vec<_>, Vec<_>) = own.chain(places).partition(|it| *it);
        let [queued, left_out] = self.others;
        NamespaceCounts {
            attached: attached.len(),
            waiting: waiting.len() + queued,
            left_out,
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

/// Returns a note on the network namespace of an IP address: `--netns` has the service listen in
/// another one than the host's.
fn place(address: &ListenAddress) -> String {
    if matches!(address, ListenAddress::Unix(_)) {
        return String::new();
    }
    // Whether it is that of process 1, a service with few capabilities may not know.
    match netns::name() {
        Some(name) => format!(", in the network namespace {name}"),
        None if netns::is_that_of_init() == Some(false) => {
            ", in a network namespace that is not that of process 1".to_owned()
        }
        None => String::new(),
    }
}
