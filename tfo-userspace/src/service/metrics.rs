//! The service's metrics: each namespace is asked in its own thread.

use std::sync::{Arc, Mutex};

use tracing::{info, warn};

use super::worker::{Inquiry, lock};
use crate::metrics::{self, Listen, ListenError, NamespaceFacts, Server, Watch};

/// Whom to ask, and for which ports. Empty until the service has started.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<(Vec<Inquiry>, Vec<u16>)>>);

impl Asked {
    /// Asks these from now on.
    pub(super) fn set(&self, workers: Vec<Inquiry>, ports: &[u16]) {
        *lock(&self.0) = (workers, ports.to_owned());
    }

    async fn facts(self) -> Vec<NamespaceFacts> {
        let (workers, ports) = lock(&self.0).clone();
        let mut facts = Vec::new();
        for worker in workers {
            let watch = Watch {
                netns: worker.name.clone(),
                interfaces: worker.interfaces(),
                ports: ports.clone(),
            };
            let asked = watch.clone();
            let read = worker.run(move |site| {
                Box::pin(async move {
                    let mut facts = metrics::read(site.namespace(), &asked).await;
                    facts.keys = Some(site.keys());
                    facts.policy_refused = site.policy_refused();
                    facts.guard_refused = site.guard_refused();
                    facts.farm = site.farm();
                    facts
                })
            });
            facts.push(match read.await {
                Some(facts) => facts,
                None => metrics::unreadable(&watch, &"this network namespace is not there yet"),
            });
        }
        facts
    }
}

/// Serves them until the runtime ends, once [`Asked::set`] has said whom to ask.
///
/// # Errors
///
/// [`ListenError`].
pub(super) async fn serve(listen: &Listen) -> Result<Asked, ListenError> {
    let server = Server::bind(listen).await?;
    if let Ok(address) = server.address() {
        info!("metrics: serving at {address}");
        if address.is_public() {
            warn!("metrics: whoever reaches {address} may read them; a firewall says who does");
        }
    }
    let asked = Asked::default();
    let ask = asked.clone();
    tokio::spawn(server.serve(move || ask.clone().facts()));
    Ok(asked)
}
