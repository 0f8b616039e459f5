//! The farm as a source of keys. The keeper of the keys has one end of two channels, the agent the other.

use tokio::sync::watch;

use super::phase::FarmState;
use crate::{
    kernel::clock::Now,
    keys::{KeyPlan, KeySource},
    model::{Fingerprint, KeyPair},
};

/// The keeper's report to the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InForce {
    /// [`FarmState::step`] of the keys in force; `None` where they are not the farm's.
    pub(super) step: Option<u64>,
    /// The key that the kernel issues.
    pub(super) primary: Option<Fingerprint>,
    /// Why the farm's keys are not in force.
    pub(super) error: Option<String>,
}

/// The agent's end.
pub(super) struct AgentChannels {
    /// Sends the state to put in force.
    pub(super) offer: watch::Sender<Option<FarmState>>,
    /// Receives what is in force.
    pub(super) in_force: watch::Receiver<InForce>,
}

/// The keeper's end.
#[derive(Clone)]
pub(super) struct KeeperChannels {
    /// Receives the state to put in force; `None` until the host has a document.
    pub(super) offered: watch::Receiver<Option<FarmState>>,
    /// Sends what is in force.
    in_force: watch::Sender<InForce>,
}

/// Makes both ends. `state` is the state that the host has stored.
pub(super) fn channels(state: Option<FarmState>) -> (AgentChannels, KeeperChannels) {
    let (offer, offered) = watch::channel(state);
    let (sender, receiver) = watch::channel(InForce::default());
    let agent = AgentChannels {
        offer,
        in_force: receiver,
    };
    let keeper = KeeperChannels {
        offered,
        in_force: sender,
    };
    (agent, keeper)
}

/// The keys of the farm's present document.
pub struct FarmSource {
    channels: Option<KeeperChannels>,
    state: Option<FarmState>,
}

impl FarmSource {
    pub(super) const fn new(channels: KeeperChannels) -> Self {
        Self {
            channels: Some(channels),
            state: None,
        }
    }

    /// A source for a host that could not start its part in the farm: the keys stay as they are.
    pub const fn unavailable() -> Self {
        Self {
            channels: None,
            state: None,
        }
    }
}

impl KeySource for FarmSource {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn refresh(&mut self) -> Result<(), String> {
        if let Some(channels) = &self.channels {
            self.state.clone_from(&channels.offered.borrow());
        }
        Ok(())
    }

    fn plan(&self, _now: Now, _kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String> {
        let state = self.state.as_ref();
        Ok(state.map(|state| KeyPlan::unstaged(&state.pair())))
    }

    fn observe(&self, kernel: Option<&KeyPair>, error: Option<&str>) {
        let Some(channels) = &self.channels else {
            return;
        };
        let installed = |state: &&FarmState| error.is_none() && kernel == Some(&state.pair());
        let new = InForce {
            step: self.state.as_ref().filter(installed).map(FarmState::step),
            primary: kernel.map(|pair| Fingerprint::of(&pair.primary)),
            error: error.map(str::to_owned),
        };
        channels.in_force.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }
}
