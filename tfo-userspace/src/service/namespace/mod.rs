//! The service of one network namespace: what is attached there, its rules and its keys. It runs in the namespace's own
//! thread.

mod interfaces;

use std::{collections::BTreeMap, future::pending, time::Duration};

use tokio::runtime::Handle;
use tracing::{error, info};

use self::interfaces::{Interfaces, log, resolve};
use super::{
    attached::describe_hook_change, error::StartError, guard_monitor::GuardMonitor,
    keys::KeyService, listener_helper::ListenerHelper, listeners::ListenerKeeper,
    own_cookies::OwnCookieKeeper, policy, repeated::log_new, route_watch::RouteWatch,
};
use crate::{
    config::NamespaceConfig,
    datapath::{self, AttachError, Change, Follower, Namespace, NamespaceError, Wanted},
    farm::FarmReport,
    kernel::link,
    keys::KeyReport,
    model::ModeChoice,
};

/// The interval at which keys and guard are checked.
const TICK: Duration = Duration::from_millis(500);

/// An event in a namespace.
pub(super) enum Event {
    /// The key source may have other keys.
    Keys,
    /// The follower of interfaces has something to do, or rtnetlink failed.
    Interfaces(Result<(), NamespaceError>),
}

/// The service of one network namespace.
pub(super) struct NamespaceService {
    namespace: Namespace,
    config: NamespaceConfig,
    interfaces: Interfaces,
    /// Follows interfaces; `None` before [`Self::begin`].
    follower: Option<Follower>,
    keys: KeyService,
    /// Why the configured policy is not in force.
    policy_refused: Option<String>,
    guard: GuardMonitor,
    own_cookies: OwnCookieKeeper,
    listeners: ListenerKeeper,
    routes: RouteWatch,
    /// Why the routes could not be followed last.
    routes_failed: Option<String>,
}

impl NamespaceService {
    /// `namespace` is the calling thread's. Nothing is attached yet.
    pub(super) fn new(
        namespace: Namespace,
        config: NamespaceConfig,
        runtime: Handle,
        helper: Option<ListenerHelper>,
    ) -> Self {
        Self {
            keys: KeyService::new(&config, &namespace, runtime),
            namespace,
            config,
            interfaces: Interfaces::default(),
            follower: None,
            policy_refused: None,
            guard: GuardMonitor::default(),
            own_cookies: OwnCookieKeeper::default(),
            listeners: ListenerKeeper::new(helper),
            routes: RouteWatch::new(),
            routes_failed: None,
        }
    }

    pub(super) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn key_report(&self) -> KeyReport {
        self.keys.report()
    }

    pub(super) fn farm_report(&self) -> Option<FarmReport> {
        self.keys.farm_report()
    }

    /// Why the configured policy is not in force.
    pub(super) fn policy_refused(&self) -> Option<String> {
        self.policy_refused.clone()
    }

    /// Why the configured guard is not in force.
    pub(super) fn guard_refused(&self) -> Option<String> {
        self.guard.refused()
    }

    /// Why the configured own cookies are not in force.
    pub(super) fn own_cookies_refused(&self) -> Option<String> {
        self.own_cookies.refused()
    }

    /// Why listeners that the configuration names have no Fast Open.
    pub(super) fn listeners_refused(&self) -> Option<String> {
        self.listeners.refused()
    }

    /// The configured interfaces, alternative names of those that exist replaced by their names.
    pub(super) fn interfaces(&self) -> &[String] {
        &self.config.interfaces
    }

    /// The attached interfaces.
    pub(super) fn attached(&self) -> impl Iterator<Item = &str> {
        self.interfaces.attached.iter().map(String::as_str)
    }

    /// The configured interfaces that are not attached, and why.
    pub(super) const fn missing(&self) -> &BTreeMap<String, String> {
        &self.interfaces.missing
    }

    /// Attaches to the interfaces that exist, and follows those that appear. Failures are tried again.
    ///
    /// # Errors
    ///
    /// The first failure, not logged, where nothing is attached.
    pub(super) async fn begin(&mut self) -> Result<(), StartError> {
        resolve(&mut self.config.interfaces).await;
        let mut failed = self.attach_all().await;
        let first =
            (self.interfaces.attached.is_empty() && !failed.is_empty()).then(|| failed.remove(0));
        log(&failed);
        self.start_keys()?;
        self.apply_rules().await;
        self.follower = Some(Follower::start(Namespace::current()?, self.wanted())?);
        first.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Attaches to every configured interface, or upgrades what is attached. Gives the failures.
    async fn attach_all(&mut self) -> Vec<AttachError> {
        let mut failed = Vec::new();
        for wanted in self.wanted() {
            let (choice, settings) = (wanted.choice, wanted.settings);
            match datapath::ensure(&self.namespace, &wanted.name, choice, settings).await {
                Ok(ensured) => {
                    self.interfaces.record_attached(wanted.name, &ensured);
                }
                Err(error) => {
                    self.interfaces.record_failed(wanted.name, &error);
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

    /// Waits for an event. Cancel safe.
    pub(super) async fn next_event(&mut self) -> Event {
        let interfaces = async {
            match &mut self.follower {
                Some(follower) => follower.ready().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.keys.changed() => Event::Keys,
            ready = interfaces => Event::Interfaces(ready),
        }
    }

    /// Handles an event.
    pub(super) async fn handle(&mut self, event: Event) {
        match event {
            Event::Keys => self.tick_secrets().await,
            Event::Interfaces(Ok(())) => self.advance().await,
            Event::Interfaces(Err(error)) => error!("{error}"),
        }
    }

    /// Attaches to configured interfaces that appeared, and detaches from those that left.
    async fn advance(&mut self) {
        let Some(follower) = &mut self.follower else {
            return;
        };
        match follower.advance().await {
            Ok(Some(change)) => self.handle_change(change).await,
            Ok(None) => {}
            Err(error) => error!("{error}"),
        }
    }

    async fn handle_change(&mut self, change: Change) {
        if self.interfaces.take(change, &self.config.interfaces) {
            // Policy and guard are lost with the last attached interface. Not where nothing is new: what an operator changed
            // meanwhile would be undone.
            self.apply_rules().await;
        }
        if let Err(error) = self.start_keys() {
            error!("{error}");
        }
    }

    /// Puts the configured policy and guard in force, where an interface is attached.
    async fn apply_rules(&mut self) {
        if !self.interfaces.attached.is_empty() {
            self.policy_refused = policy::apply(&self.namespace, &self.config);
            self.guard.apply(&self.namespace, &self.config).await;
            let farm = self.keys.farm();
            self.own_cookies
                .apply(&self.namespace, &self.config, farm)
                .await;
            self.follow_job().await;
        }
    }

    /// Moves interfaces to the hooks that policy and guard call for.
    async fn follow_job(&self) {
        match datapath::follow_job(&self.namespace).await {
            Ok(changes) => {
                for change in &changes {
                    info!("{}", describe_hook_change(change));
                }
            }
            Err(error) => error!("{error}"),
        }
    }

    fn start_keys(&mut self) -> Result<(), NamespaceError> {
        if self.interfaces.attached.is_empty() {
            return Ok(());
        }
        self.keys
            .start(&mut self.namespace, self.interfaces.taken_over)
    }

    /// Does what is due. Gives the time until the next call.
    pub(super) async fn tick(&mut self) -> Duration {
        self.tick_secrets().await;
        self.tick_guard().await;
        self.listeners.tick(&self.config);
        self.follow_routes();
        self.keys.until_next().map_or(TICK, |next| next.min(TICK))
    }

    async fn tick_guard(&mut self) {
        let farm = self.keys.farm();
        self.guard.tick(&self.namespace, farm);
        let configured = self.config.guard.as_ref();
        if !self.interfaces.attached.is_empty()
            && self
                .guard
                .follow_farm(&self.namespace, configured, farm)
                .await
        {
            self.follow_job().await;
        }
    }

    /// Puts other keys and secrets in force, where they are due.
    async fn tick_secrets(&mut self) {
        self.keys.tick(&mut self.namespace);
        let farm = self.keys.farm();
        self.own_cookies.tick(&self.namespace, &self.config, farm);
        if !self.interfaces.attached.is_empty() {
            self.own_cookies
                .retry(&self.namespace, &self.config, farm)
                .await;
        }
    }

    /// Logs a failure once.
    fn follow_routes(&mut self) {
        let followed = if self.routes.changed() {
            let followed = self.namespace.follow_routes();
            self.routes.record(followed.is_ok());
            followed
        } else {
            self.namespace.show_output_routes()
        };
        let failed = followed.err();
        let failed = failed.map(|error| error.to_string());
        log_new(&mut self.routes_failed, "cannot follow the routes", failed);
    }

    /// Changes to another configuration of the same namespace. What both have in common goes on undisturbed.
    pub(super) async fn apply(&mut self, mut config: NamespaceConfig) {
        resolve(&mut config.interfaces).await;
        let old = std::mem::replace(&mut self.config, config);
        let new = self.config.clone();
        for name in &old.interfaces {
            if !new.interfaces.contains(name) {
                self.interfaces.missing.remove(name);
                self.detach(name).await;
            }
        }
        // A mode that is no longer asked for is not kept.
        if old.mode.is_some() && new.mode.is_none() {
            self.config.mode = Some(ModeChoice::Auto);
        }
        if old.listeners != new.listeners {
            self.listeners.apply();
        }
        if self.keys.configure(&self.namespace, &new) {
            info!("keys: source {}", new.source.name());
        }
        // Interfaces with other settings are upgraded in place.
        log(&self.attach_all().await);
        if old.policy.is_some() && new.policy.is_none() && !self.interfaces.attached.is_empty() {
            policy::clear(&self.namespace);
        }
        if old.guard.is_some() && new.guard.is_none() && !self.interfaces.attached.is_empty() {
            self.guard.clear(&self.namespace, self.keys.farm()).await;
        }
        if old.cookies.is_some() && new.cookies.is_none() && !self.interfaces.attached.is_empty() {
            let farm = self.keys.farm();
            self.own_cookies
                .clear(&self.namespace, &self.config, farm)
                .await;
        }
        self.apply_rules().await;
        let wanted = self.wanted();
        if let Some(follower) = &mut self.follower {
            follower.want(wanted);
        }
        self.keys.tick(&mut self.namespace);
    }

    /// Detaches from all interfaces, for the end.
    pub(super) async fn detach_all(&mut self) {
        // It would attach again what it finds detached, before the thread sees that it is to end.
        self.follower = None;
        for name in self.interfaces.attached.clone() {
            self.detach(&name).await;
        }
    }

    async fn detach(&mut self, name: &str) {
        if !self.interfaces.attached.remove(name) {
            return;
        }
        let detached = match link::find(name).await {
            Ok(interface) => datapath::detach(&self.namespace, interface.index, name).await,
            Err(error) => Err(NamespaceError::from(error).into()),
        };
        match detached {
            Ok(()) => info!("{name}: detached"),
            Err(error) => error!("{error}"),
        }
    }
}
