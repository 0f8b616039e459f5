//! One network namespace: what is attached there, and its keys. Everything here runs in the namespace's
//! own thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tfo_common::cookie::KeySet;
use tracing::{error, info, warn};

use super::{StartError, memory, watch::Watch};
use crate::{
    config::NamespaceConfig,
    datapath::{self, AttachError, Namespace, NamespaceError},
    kernel::{clock::Now, link, sysctl},
    keys::{Found, Host, Keeper, KeyPair, KeyReport, Plan},
};

/// How often the kernel's keys are looked at, at least: what someone else does is noticed within a second.
const LOOK: Duration = Duration::from_millis(500);
/// How long an interface that could not be attached is left alone.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// One network namespace.
pub struct Site {
    namespace: Namespace,
    config: NamespaceConfig,
    attached: BTreeSet<String>,
    /// The others, and why.
    missing: BTreeMap<String, String>,
    retry_at: Instant,
    /// Whether the first attempt has been made.
    begun: bool,
    /// Whether something was attached before.
    taken_over: bool,
    keeper: Option<Keeper>,
    pub(super) watch: Watch,
}

impl Site {
    /// The calling thread's namespace; nothing is attached yet.
    pub(super) fn new(namespace: Namespace, config: NamespaceConfig) -> Self {
        let mut watch = Watch::default();
        watch.set(config.source.path());
        Self {
            namespace,
            config,
            attached: BTreeSet::new(),
            missing: BTreeMap::new(),
            retry_at: Instant::now(),
            begun: false,
            taken_over: false,
            keeper: None,
            watch,
        }
    }

    /// The namespace, to read what it counted.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What there is to say about its keys.
    pub fn keys(&self) -> KeyReport {
        let report = self.keeper.as_ref().map(Keeper::report);
        report.unwrap_or_else(|| KeyReport {
            source: self.config.source.name(),
            ..KeyReport::default()
        })
    }

    /// The interfaces that are attached.
    pub fn attached(&self) -> impl Iterator<Item = &str> {
        self.attached.iter().map(String::as_str)
    }

    /// The interfaces that should be attached and are not.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.keys().map(String::as_str)
    }

    /// Attaches to the interfaces that are not attached yet. Each failure is said once, and tried again
    /// after [`RETRY`].
    ///
    /// # Errors
    ///
    /// The first failure, where nothing is attached then. At the very first attempt it is left to the
    /// caller to say.
    pub(super) async fn attach_missing(&mut self) -> Result<(), StartError> {
        self.retry_at = Instant::now() + RETRY;
        let mut first = None;
        let mut said = Vec::new();
        for name in self.config.interfaces.clone() {
            if self.attached.contains(&name) {
                continue;
            }
            match self.attach(&name).await {
                Ok(()) => {
                    self.missing.remove(&name);
                    self.attached.insert(name);
                }
                Err(error) => {
                    let text = error.to_string();
                    first.get_or_insert(error);
                    if self.missing.get(&name) != Some(&text) {
                        said.push(text.clone());
                        self.missing.insert(name, text);
                    }
                }
            }
        }
        let skip = usize::from(!self.begun && self.attached.is_empty());
        self.begun = true;
        for text in said.iter().skip(skip) {
            error!("{text}");
        }
        self.start_keys()?;
        match first {
            Some(error) if self.attached.is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Attaches again where an interface is no longer attached: it went and came back, was renamed, or
    /// someone detached it.
    pub async fn look_again(&mut self) {
        match self.namespace.interfaces().await {
            Ok(present) => self.attached.retain(|name| {
                let is_attached = present
                    .iter()
                    .any(|each| each.mode.is_some() && each.name.as_ref() == Some(name));
                if !is_attached {
                    warn!("{name}: no longer attached");
                }
                is_attached
            }),
            Err(error) => error!("{error}"),
        }
        // It has said so itself.
        let _ = self.attach_missing().await;
    }

    async fn attach(&mut self, name: &str) -> Result<(), AttachError> {
        let NamespaceConfig { mode, settings, .. } = self.config;
        match datapath::attach(&self.namespace, name, mode, settings).await {
            Ok(attached) => {
                for line in attached.describe(name).lines() {
                    info!("{line}");
                }
                memory::give_back();
                Ok(())
            }
            Err(AttachError::Twice {
                interface,
                program_id,
                mode,
            }) => {
                self.taken_over = true;
                info!("{interface}: taken over as it is: program {program_id}, {mode} mode");
                Ok(())
            }
            Err(error) => Err(error),
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
        self.keeper = Some(Keeper::new(source, *on_foreign_change, found, Now::read()));
        self.tick_keys();
        Ok(())
    }

    /// Does what is due. Gives the time until it is to be called again.
    pub(super) async fn tick(&mut self) -> Duration {
        if !self.missing.is_empty() && Instant::now() >= self.retry_at {
            // It has said so itself.
            let _ = self.attach_missing().await;
        }
        self.tick_keys();
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
        if (old.mode, old.settings) != (new.mode, new.settings) {
            for name in &self.attached {
                warn!(
                    "{name}: mode, mirror and bounds of what is attached stay as they are: `tfo detach {name}` and a restart change them, and its counts begin anew"
                );
            }
        }
        if (&old.source, old.on_foreign_change) != (&new.source, new.on_foreign_change) {
            info!("keys: source {}", new.source.name());
            self.watch.set(new.source.path());
            if let Some(keeper) = &mut self.keeper {
                keeper.configure(&new.source, new.on_foreign_change, Now::read());
            }
        }
        self.look_again().await;
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
