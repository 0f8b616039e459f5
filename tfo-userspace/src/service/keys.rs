//! The keys of one namespace: its source, the keeper and the part in a farm.

use std::{future::pending, time::Duration};

use tokio::runtime::Handle;
use tracing::{error, warn};

use super::file_watch::FileWatch;
use crate::{
    config::{KeySourceConfig, NamespaceConfig, OwnCookieConfig, OwnSecretsConfig},
    datapath::{Namespace, NamespaceError},
    farm::{FarmReport, FarmSource, GuardRecord, Membership, OwnCookiesTaken, PublishedReport},
    kernel::{clock::Now, sysctl},
    keys::{
        FileSource, InitialKeys, Keeper, KernelSource, KeyReport, KeySource, OnForeignChange,
        RandomSource, SecretSource, SourceStart,
    },
};

/// Keeps the keys of one namespace, from the first attached interface on.
pub(super) struct KeyService {
    source: KeySourceConfig,
    on_foreign_change: OnForeignChange,
    keeper: Option<Keeper>,
    /// The file of the secret or the keys.
    file: FileWatch,
    /// The host's part in the farm, where that is the source.
    farm: Option<Membership>,
    published: Option<PublishedReport>,
    /// The runtime of the main thread: the farm's task runs in the namespace in which the service was started.
    runtime: Handle,
}

impl KeyService {
    /// Starts the part in the farm, if any. The keeper starts with [`Self::start`].
    pub(super) fn new(config: &NamespaceConfig, namespace: &Namespace, runtime: Handle) -> Self {
        let mut file = FileWatch::default();
        file.set(config.source.path());
        Self {
            farm: join_farm(config, namespace, &runtime),
            source: config.source.clone(),
            on_foreign_change: config.on_foreign_change,
            keeper: None,
            file,
            published: None,
            runtime,
        }
    }

    /// The state of the keys.
    pub(super) fn report(&self) -> KeyReport {
        let report = self.keeper.as_ref().map(Keeper::report);
        report.unwrap_or_else(|| KeyReport {
            source: self.source.name(),
            ..KeyReport::default()
        })
    }

    /// The state of the farm.
    pub(super) fn farm_report(&self) -> Option<FarmReport> {
        self.farm.as_ref().map(Membership::report)
    }

    /// The host's part in the farm, where that is the source.
    pub(super) const fn farm(&self) -> Option<&Membership> {
        self.farm.as_ref()
    }

    /// Waits until the source may have other keys. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let farm = async {
            match &mut self.farm {
                Some(farm) => farm.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.file.changed() => {}
            () = farm => {}
        }
    }

    /// Starts the keeper, unless it runs. `taken_over` is whether the data path was attached before.
    pub(super) fn start(
        &mut self,
        namespace: &mut Namespace,
        taken_over: bool,
    ) -> Result<(), NamespaceError> {
        if self.keeper.is_some() {
            return Ok(());
        }
        if let Some(hint) = sysctl::mode()?.server_off_hint() {
            warn!("{hint}");
        }
        let (pair, accepted) = namespace.keys().both()?;
        let initial = InitialKeys {
            pair,
            accepted,
            age: namespace.keys().age()?,
            taken_over,
        };
        let (source, farm) = (&self.source, self.farm.as_ref());
        self.keeper = Some(Keeper::new(
            initial,
            self.on_foreign_change,
            Now::read(),
            |start| open(source, farm, start),
        ));
        self.tick(namespace);
        Ok(())
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, namespace: &mut Namespace) {
        if let Some(keeper) = &mut self.keeper {
            keeper.tick(namespace, Now::read());
        }
        match self.farm_report() {
            Some(report) => {
                let cookie = namespace.cookie();
                let published = self
                    .published
                    .get_or_insert_with(|| PublishedReport::new(cookie));
                published.publish(report);
            }
            None => self.published = None,
        }
    }

    /// The time until the next change, where a clock decides.
    pub(super) fn until_next(&self) -> Option<Duration> {
        self.keeper.as_ref()?.until_next(Now::read())
    }

    /// Changes to the source of `config`. `false` where it is the present one.
    pub(super) fn configure(&mut self, namespace: &Namespace, config: &NamespaceConfig) -> bool {
        if (&self.source, self.on_foreign_change) == (&config.source, config.on_foreign_change) {
            return false;
        }
        self.source = config.source.clone();
        self.on_foreign_change = config.on_foreign_change;
        self.file.set(self.source.path());
        self.farm = join_farm(config, namespace, &self.runtime);
        if let Some(keeper) = &mut self.keeper {
            let (source, farm) = (&self.source, self.farm.as_ref());
            keeper.configure(self.on_foreign_change, Now::read(), |start| {
                open(source, farm, start)
            });
        }
        true
    }
}

/// Makes the configured source.
fn open(
    config: &KeySourceConfig,
    farm: Option<&Membership>,
    start: SourceStart,
) -> Box<dyn KeySource> {
    match config.clone() {
        KeySourceConfig::Random { interval } => Box::new(RandomSource::new(interval, start)),
        KeySourceConfig::Secret { path, interval } => {
            Box::new(SecretSource::new(path, interval, &start))
        }
        KeySourceConfig::File { path } => Box::new(FileSource::new(path)),
        KeySourceConfig::Etcd(_) => {
            Box::new(farm.map_or_else(FarmSource::unavailable, Membership::source))
        }
        KeySourceConfig::Kernel => Box::new(KernelSource),
    }
}

/// Starts the host's part in the farm that is the source, if any. An error is logged.
fn join_farm(
    config: &NamespaceConfig,
    namespace: &Namespace,
    runtime: &Handle,
) -> Option<Membership> {
    let farm = config.source.farm()?.clone();
    let own_cookies = match &config.cookies {
        Some(OwnCookieConfig::On {
            secrets: OwnSecretsConfig::Etcd,
            ..
        }) => OwnCookiesTaken::Pending,
        _ => OwnCookiesTaken::None,
    };
    // Known from the first record on: a guard outlives its controller.
    let guard = namespace.guard().state().ok();
    let guard = guard
        .and_then(|state| GuardRecord::read(state.as_ref(), || namespace.guard().least_mtu()).ok());
    let membership = Membership::start(farm, own_cookies, guard, runtime);
    membership.map_err(|error| error!("farm: {error}")).ok()
}
