//! The flags of `tfo run` that have it serve metrics.

use anyhow::Context as _;
use clap::Args;
use tfo_userspace::{
    datapath::Namespace,
    metrics::{self, Listen, Server, Watch},
};
use tracing::{info, warn};

#[derive(Args)]
pub(super) struct MetricsArgs {
    /// Serve Prometheus metrics over HTTP: at a port of the loopback address, at another address, or at
    /// a unix socket, which its owner and group may use
    #[arg(long = "metrics", value_name = "PORT|ADDRESS:PORT|unix:PATH")]
    listen: Option<Listen>,
    /// Ports whose counters metrics tell one by one, at most 64; all others are in sums
    #[arg(long = "metrics-ports", value_name = "PORT", value_delimiter = ',', requires = "listen", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
}

/// Each port is as many series as there are counters.
const MOST_PORTS: usize = 64;

impl MetricsArgs {
    /// Serves them, if that was asked for, of the current namespace, until the runtime ends.
    pub(super) async fn start(&self, interfaces: &[String]) -> anyhow::Result<()> {
        let Some(listen) = &self.listen else {
            return Ok(());
        };
        let mut watch = Watch {
            netns: String::new(),
            interfaces: interfaces.to_vec(),
            ports: self.ports.clone(),
        };
        watch.ports.sort_unstable();
        watch.ports.dedup();
        anyhow::ensure!(
            watch.ports.len() <= MOST_PORTS,
            "--metrics-ports: {} ports: name at most {MOST_PORTS}",
            watch.ports.len()
        );
        let server = Server::bind(listen).await?;
        let address = server.address().context("metrics")?;
        info!("metrics: serving at {address}");
        if address.is_public() {
            warn!("metrics: whoever reaches {address} may read them; a firewall says who does");
        }
        tokio::spawn(server.serve(move || {
            let watch = watch.clone();
            async move {
                match Namespace::current() {
                    Ok(namespace) => vec![metrics::read(&namespace, &watch).await],
                    Err(error) => vec![metrics::unreadable(&watch, &error)],
                }
            }
        }));
        Ok(())
    }
}
