//! `tfo demo`: a client and a server over kernel TCP Fast Open with the data path between them, on a host that need have
//! nothing but `tfo`.
//!
//! The process gets network namespaces and a BPF file system of its own, which the kernel removes with it, so nothing is left
//! however it ends.

mod error;
mod exchange;
mod family;
mod hosts;
mod line;
mod steps;

pub use error::DemoError;
pub use exchange::Exchange;
pub use family::Family;
pub use line::{DelayLine, LineEnd, Middlebox};
pub use steps::{DemoStep, STEPS};

use std::{net::TcpListener, time::Duration};

use tfo_common::counters::{Counter, Counters};

use self::{hosts::Hosts, steps::Change};
use crate::{
    datapath::{self, Attached, Drift, Namespace, NamespaceError, key_change::InstallError},
    kernel::support,
    model::{KeyPair, ModeChoice, Settings, growth, random_key},
};

/// One-way delay between the hosts.
pub const ONE_WAY: Duration = Duration::from_millis(20);

/// The data path attached to the server's interface. The calling thread is in the server's namespace.
#[derive(Debug)]
pub struct Demo {
    namespace: Namespace,
    /// The attached program.
    pub attached: Attached,
    families: Vec<Family>,
    listener: TcpListener,
    counters: Counters,
    /// Declared last: the listener is in one of its namespaces.
    hosts: Hosts,
}

/// The result of a step.
#[derive(Clone, Debug)]
pub struct StepDone {
    /// The connections, one for each version of IP; none where the step changed keys.
    pub exchanges: Vec<Exchange>,
    /// The counts of the data path meanwhile.
    pub counted: Counters,
}

impl Demo {
    /// Makes the hosts and attaches. The calling thread stays in the server's namespace, with mounts of its own: call it in a
    /// process that does nothing else.
    ///
    /// # Errors
    ///
    /// [`DemoError`].
    pub async fn start() -> Result<Self, DemoError> {
        let missing = support::missing_to_isolate();
        if !missing.is_empty() {
            return Err(DemoError::Privilege(missing));
        }
        let hosts = Hosts::create(ONE_WAY)?;
        support::own_bpffs().map_err(DemoError::Mount)?;
        hosts.server.enter().map_err(DemoError::Netns)?;
        let families = Family::of_kernel();
        let listener = exchange::listen(&families).map_err(DemoError::Configure)?;
        let namespace = Namespace::current()?;
        let (mode, settings) = (ModeChoice::default(), Settings::default());
        let interface = hosts::SERVER_INTERFACE;
        let attached = datapath::attach(&namespace, interface, mode, settings).await?;
        Ok(Self {
            namespace,
            attached,
            families,
            listener,
            counters: Counters::default(),
            hosts,
        })
    }

    /// Does one step: changes the keys, or opens one connection for each version of IP that the kernel has.
    ///
    /// # Errors
    ///
    /// [`DemoError::Course`] where a connection goes another way than Fast Open should.
    pub fn step(&mut self, step: &DemoStep) -> Result<StepDone, DemoError> {
        let mut exchanges = Vec::new();
        match step.change {
            Change::Rotate => drop(self.namespace.keys().rotate()?),
            Change::Replace => {
                let key = random_key().map_err(InstallError::Random);
                let pair = KeyPair {
                    primary: key.map_err(NamespaceError::Keys)?,
                    backup: None,
                };
                self.namespace.keys().set(&pair)?;
            }
            Change::Connect { fast_open, in_syn } => {
                for family in &self.families {
                    let connected = self.connect(step, *family, fast_open)?;
                    if connected.in_syn != in_syn {
                        return Err(DemoError::Course {
                            step: step.name,
                            family: *family,
                            expected: in_syn,
                            exchange: connected,
                        });
                    }
                    exchanges.push(connected);
                }
            }
        }
        let now = self.namespace.counters().map_err(NamespaceError::from)?;
        let counted = growth(&self.counters, &now.total);
        self.counters = now.total;
        Ok(StepDone { exchanges, counted })
    }

    fn connect(
        &self,
        step: &DemoStep,
        family: Family,
        with_fast_open: bool,
    ) -> Result<Exchange, DemoError> {
        let connected =
            exchange::exchange(&self.hosts.client, &self.listener, family, with_fast_open);
        connected.map_err(|source| DemoError::Connection {
            step: step.name,
            family,
            source,
        })
    }

    /// The counters beside the kernel's, and those that differ.
    ///
    /// # Errors
    ///
    /// [`DemoError::Namespace`].
    pub async fn compare(&self) -> Result<(Drift, Vec<Counter>), DemoError> {
        Ok(self.namespace.lasting_drift().await?)
    }
}
