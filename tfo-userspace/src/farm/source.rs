//! The farm as a source of keys, and of secrets of own cookies. Their keepers have one end of two channels, the agent the other.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::{document::Document, guard_record::GuardRecord, phase::FarmState};
use crate::{
    kernel::clock::Now,
    keys::{KeyPlan, KeySource},
    model::{Fingerprint, KeyPair},
};

/// The state to put in force.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) state: FarmState,
    /// The digest of the rules by which hosts issue own cookies.
    pub(super) own_cookies: Option<String>,
    /// The farm.
    pub(super) farm: String,
    /// Its hosts, those left behind included.
    pub(super) hosts: BTreeSet<String>,
}

impl Offer {
    pub(super) fn of(document: &Document) -> Self {
        let head = &document.head;
        Self {
            state: document.state.clone(),
            own_cookies: head.own_cookies.clone(),
            farm: head.farm.clone(),
            hosts: head.hosts().cloned().collect(),
        }
    }
}

/// The own cookies that a host takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum OwnCookiesTaken {
    /// None with secrets of the farm.
    #[default]
    None,
    /// They are to come: no step is acknowledged before.
    Pending,
    /// By the secrets of a step.
    Taken {
        step: u64,
        /// [`crate::model::OwnCookieRules::digest`].
        rules: String,
    },
}

/// The keepers' report to the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct InForce {
    /// [`FarmState::step`] of the keys in force; `None` where they are not the farm's.
    step: Option<u64>,
    pub(super) own_cookies: OwnCookiesTaken,
    /// The key that the kernel issues.
    pub(super) primary: Option<Fingerprint>,
    /// The guard; `None` where it could not be read.
    pub(super) guard: Option<GuardRecord>,
    /// Why the farm's keys are not in force.
    pub(super) error: Option<String>,
}

impl InForce {
    /// This host challenges for others.
    pub(super) fn is_edge(&self) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| !guard.edges.is_empty())
    }

    /// The step of which keys and secrets are in force.
    pub(super) fn step(&self) -> Option<u64> {
        match &self.own_cookies {
            OwnCookiesTaken::None => self.step,
            OwnCookiesTaken::Pending => None,
            OwnCookiesTaken::Taken { step, .. } => self.step.filter(|keys| keys == step),
        }
    }
}

/// The agent's end.
pub(super) struct AgentChannels {
    /// Sends the state to put in force.
    pub(super) offer: watch::Sender<Option<Offer>>,
    /// Receives what is in force.
    pub(super) in_force: watch::Receiver<InForce>,
}

/// The keeper's end.
#[derive(Clone)]
pub(super) struct KeeperChannels {
    /// Receives the state to put in force; `None` until the host has a document.
    pub(super) offered: watch::Receiver<Option<Offer>>,
    /// Sends what is in force.
    in_force: watch::Sender<InForce>,
}

impl KeeperChannels {
    /// Changes what is reported to be in force.
    pub(super) fn report(&self, change: impl FnOnce(&mut InForce)) {
        self.in_force.send_if_modified(|in_force| {
            let before = in_force.clone();
            change(in_force);
            *in_force != before
        });
    }
}

/// Makes both ends. `stored` is the document that the host has stored, `own_cookies` what is known of them, and `guard` what
/// is in force.
pub(super) fn channels(
    stored: Option<&Document>,
    own_cookies: OwnCookiesTaken,
    guard: Option<GuardRecord>,
) -> (AgentChannels, KeeperChannels) {
    let (offer, offered) = watch::channel(stored.map(Offer::of));
    let (sender, receiver) = watch::channel(InForce {
        own_cookies,
        guard,
        ..InForce::default()
    });
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
            let offered = channels.offered.borrow();
            self.state = offered.as_ref().map(|offer| offer.state.clone());
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
        channels.report(|in_force| {
            in_force.step = self.state.as_ref().filter(installed).map(FarmState::step);
            in_force.primary = kernel.map(|pair| Fingerprint::of(&pair.primary));
            in_force.error = error.map(str::to_owned);
        });
    }
}
