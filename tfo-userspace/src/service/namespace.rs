//! One network namespace: what is attached there, and its keys. Everything here runs in the namespace's
//! own thread.

use std::{collections::BTreeSet, future::pending, time::Duration};

use tfo_common::cookie::KeySet;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::{StartError, guard::Watchman, memory, policy, watch::Watch};
use crate::{
    config::NamespaceConfig,
    datapath::{self, AttachError, Change, Ensured, Follower, Namespace, NamespaceError, Wanted},
    farm::{Farm, FarmReport, Published},
    kernel::{clock::Now, link, sysctl},
    keys::{Found, Host, Keeper, KeyPair, KeyReport, Plan},
};

/// How often the kernel's keys are looked at, at least: what someone else does is noticed within a second.
const LOOK: Duration = Duration::from_millis(500);
/// How long the kernel is left alone where it does not answer, or a namespace is not there.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// What happened in a namespace.
pub(super) enum Event {
    /// Something to what keys come from.
    Keys,
    /// Something to an interface, or the kernel does not tell.
    Interface(Result<Change, NamespaceError>),
}

/// One network namespace.
pub(super) struct Site {
    namespace: Namespace,
    config: NamespaceConfig,
    attached: BTreeSet<String>,
    /// The others.
    missing: BTreeSet<String>,
    /// From the first attempt on.
    follower: Option<Follower>,
    /// Whether something was attached before.
    taken_over: bool,
    keeper: Option<Keeper>,
    /// Why the configured policy is not in force, if it is not.
    policy_refused: Option<String>,
    guard: Watchman,
    watch: Watch,
    /// Where the keys come from a farm.
    farm: Option<Farm>,
    published: Option<Published>,
    /// Where the farm is asked from: the namespace in which the service was started.
    runtime: Handle,
}

impl Site {
    /// The calling thread's namespace; nothing is attached yet.
    pub(super) fn new(namespace: Namespace, config: NamespaceConfig, runtime: Handle) -> Self {
        let mut watch = Watch::default();
        watch.set(config.source.path());
        Self {
            farm: start_farm(&config, &runtime),
            published: None,
            runtime,
            namespace,
            config,
            attached: BTreeSet::new(),
            missing: BTreeSet::new(),
            follower: None,
            taken_over: false,
            keeper: None,
            policy_refused: None,
            guard: Watchman::default(),
            watch,
        }
    }

    /// The namespace, to read what it counted.
    pub(super) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What there is to say about its keys.
    pub(super) fn keys(&self) -> KeyReport {
        let report = self.keeper.as_ref().map(Keeper::report);
        report.unwrap_or_else(|| KeyReport {
            source: self.config.source.name(),
            ..KeyReport::default()
        })
    }

    /// Why the configured policy is not in force, if it is not.
    pub(super) fn policy_refused(&self) -> Option<String> {
        self.policy_refused.clone()
    }

    /// Why the configured guard is not in force, if it is not.
    pub(super) fn guard_refused(&self) -> Option<String> {
        self.guard.refused()
    }

    /// What there is to say about its farm.
    pub(super) fn farm(&self) -> Option<FarmReport> {
        self.farm.as_ref().map(Farm::report)
    }

    /// The interfaces that are attached.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.attached.iter().map(String::as_str)
    }

    /// The interfaces that should be attached and are not.
    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(String::as_str)
    }

    /// Attaches to the interfaces that are there, and from then on to those that come. A failure is tried
    /// again.
    ///
    /// # Errors
    ///
    /// The first failure, where nothing is attached then, which is left to the caller to say.
    pub(super) async fn begin(&mut self) -> Result<(), StartError> {
        let mut failed = self.attach_all().await;
        let first = (self.attached.is_empty() && !failed.is_empty()).then(|| failed.remove(0));
        for error in failed {
            error!("{error}");
        }
        self.start_keys()?;
        self.apply_rules().await;
        self.follower = Some(Follower::start(Namespace::current()?, self.wanted())?);
        first.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Attaches to every interface that is wanted, or brings it up to date. Gives what went wrong.
    async fn attach_all(&mut self) -> Vec<AttachError> {
        let mut failed = Vec::new();
        for wanted in self.wanted() {
            let (choice, settings) = (wanted.choice, wanted.settings);
            match datapath::ensure(&self.namespace, &wanted.name, choice, settings).await {
                Ok(ensured) => self.attached(wanted.name, &ensured),
                Err(error) => {
                    self.attached.remove(&wanted.name);
                    self.missing.insert(wanted.name);
                    failed.push(error);
                }
            }
        }
        failed
    }

    fn wanted(&self) -> Vec<Wanted> {
        let NamespaceConfig { mode, settings, .. } = self.config;
        let wanted = |name: &String| Wanted {
            name: name.clone(),
            choice: mode,
            settings,
        };
        self.config.interfaces.iter().map(wanted).collect()
    }

    fn attached(&mut self, name: String, ensured: &Ensured) {
        if self.attached.contains(&name) && matches!(ensured, Ensured::Kept(_)) {
            return;
        }
        self.taken_over |= !matches!(ensured, Ensured::Attached(_));
        for line in ensured.describe(&name).lines() {
            info!("{line}");
        }
        self.missing.remove(&name);
        self.attached.insert(name);
        memory::give_back();
    }

    /// Waits until something happens: beside the file of the keys, or to an interface, which is attached
    /// where it is to be. Nothing is lost where it is dropped.
    pub(super) async fn event(&mut self) -> Event {
        let change = async {
            match &mut self.follower {
                Some(follower) => follower.next().await,
                None => pending().await,
            }
        };
        let farm = async {
            match &mut self.farm {
                Some(farm) => farm.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.watch.changed() => Event::Keys,
            () = farm => Event::Keys,
            change = change => Event::Interface(change),
        }
    }

    /// Does what an event asks for.
    pub(super) async fn take(&mut self, event: Event) {
        match event {
            Event::Keys => self.tick_keys(),
            Event::Interface(Ok(change)) => self.note(change).await,
            Event::Interface(Err(error)) => error!("{error}"),
        }
    }

    async fn note(&mut self, change: Change) {
        match change {
            Change::Attached { name, ensured } => {
                self.attached(name, &ensured);
                // They went with the last interface that was attached before.
                self.apply_rules().await;
            }
            Change::Renamed { ref from, ref to } => {
                info!("{change}");
                if self.attached.remove(from) {
                    self.attached.insert(to.clone());
                }
            }
            Change::Failed { ref name, .. }
            | Change::Missing { ref name }
            | Change::Vanished { ref name }
            | Change::Lost { ref name } => {
                warn!("{change}");
                self.attached.remove(name);
                self.missing.insert(name.clone());
            }
        }
        if let Err(error) = self.start_keys() {
            error!("{error}");
        }
    }

    /// Puts the configured policy and guard in force, where there is a data path.
    async fn apply_rules(&mut self) {
        if !self.attached.is_empty() {
            self.policy_refused = policy::apply(&self.namespace, &self.config);
            self.guard.apply(&self.namespace, &self.config).await;
        }
    }

    /// Looks after the keys from the first attached interface on.
    fn start_keys(&mut self) -> Result<(), NamespaceError> {
        if self.keeper.is_some() || self.attached.is_empty() {
            return Ok(());
        }
        let mode = sysctl::mode()?;
        if !mode.server() {
            warn!(
                "TCP Fast Open is off for listeners here (net.ipv4.tcp_fastopen = {}): sysctl -w net.ipv4.tcp_fastopen={}",
                mode.0,
                mode.0 | 0x2
            );
        }
        let (pair, accepted) = self.namespace.both_keys()?;
        let found = Found {
            pair,
            accepted,
            age: self.namespace.keys_age()?,
            taken_over: self.taken_over,
        };
        let NamespaceConfig {
            source,
            on_foreign_change,
            ..
        } = &self.config;
        let mut keeper = Keeper::new(source, *on_foreign_change, found, Now::read());
        if let Some(farm) = &self.farm {
            keeper.join(farm.link());
        }
        self.keeper = Some(keeper);
        self.tick_keys();
        Ok(())
    }

    /// Does what is due. Gives the time until it is to be called again.
    pub(super) fn tick(&mut self) -> Duration {
        self.tick_keys();
        self.guard.tick(&self.namespace);
        let next = self
            .keeper
            .as_ref()
            .and_then(|keeper| keeper.next(Now::read()));
        next.map_or(LOOK, |next| next.min(LOOK))
    }

    fn tick_keys(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.tick(&mut Sides(&self.namespace), Now::read());
        }
        let cookie = self.namespace.cookie();
        match self.farm() {
            Some(report) => {
                let published = self.published.get_or_insert_with(|| Published::new(cookie));
                published.publish(report);
            }
            None => self.published = None,
        }
    }

    /// Goes over to another configuration of the same namespace: what is in both goes on as it is.
    pub(super) async fn apply(&mut self, config: NamespaceConfig) {
        let old = std::mem::replace(&mut self.config, config);
        let new = self.config.clone();
        let gone: Vec<String> = old
            .interfaces
            .into_iter()
            .filter(|name| !new.interfaces.contains(name))
            .collect();
        for name in &gone {
            self.missing.remove(name);
            self.detach(name).await;
        }
        if old.mode != new.mode {
            for name in &self.attached {
                warn!(
                    "{name}: runs as it does until it is attached anew: `tfo detach {name}`, and it is attached in the new mode"
                );
            }
        }
        if (&old.source, old.on_foreign_change) != (&new.source, new.on_foreign_change) {
            info!("keys: source {}", new.source.name());
            self.watch.set(new.source.path());
            self.farm = start_farm(&new, &self.runtime);
            if let Some(keeper) = &mut self.keeper {
                keeper.configure(&new.source, new.on_foreign_change, Now::read());
                if let Some(farm) = &self.farm {
                    keeper.join(farm.link());
                }
            }
        }
        // What has other settings now is upgraded in place.
        for error in self.attach_all().await {
            error!("{error}");
        }
        if old.policy.is_some() && new.policy.is_none() && !self.attached.is_empty() {
            policy::clear(&self.namespace);
        }
        if old.guard.is_some() && new.guard.is_none() && !self.attached.is_empty() {
            self.guard.clear(&self.namespace).await;
        }
        self.apply_rules().await;
        let wanted = self.wanted();
        if let Some(follower) = &mut self.follower {
            follower.want(wanted);
        }
        self.tick_keys();
    }

    /// Detaches from everything.
    pub(super) async fn detach_all(&mut self) {
        for name in self.attached.clone() {
            self.detach(&name).await;
        }
    }

    async fn detach(&mut self, name: &str) {
        if !self.attached.remove(name) {
            return;
        }
        let detached = match link::find(name).await {
            Ok(interface) => datapath::detach(&self.namespace, interface.index, name),
            Err(error) => Err(NamespaceError::from(error).into()),
        };
        match detached {
            Ok(()) => info!("{name}: detached"),
            Err(error) => error!("{error}"),
        }
    }
}

/// The farm that keys come from, if they do.
fn start_farm(config: &NamespaceConfig, runtime: &Handle) -> Option<Farm> {
    let farm = Farm::start(config.source.farm()?.clone(), runtime);
    farm.map_err(|error| error!("farm: {error}")).ok()
}

/// The namespace's data path and kernel.
struct Sides<'a>(&'a Namespace);

impl Host for Sides<'_> {
    type Error = NamespaceError;

    fn kernel(&self) -> Result<Option<KeyPair>, NamespaceError> {
        Ok(sysctl::key()?)
    }

    fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), NamespaceError> {
        self.0.both_keys()
    }

    fn install(&mut self, plan: &Plan) -> Result<(), NamespaceError> {
        self.0.install_keys(&plan.pair, plan.staged)
    }
}
