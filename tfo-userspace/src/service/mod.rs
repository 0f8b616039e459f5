//! `tfo run`: keeps the data path attached and the keys in force, until SIGTERM.
//!
//! A network namespace has a thread ([`Worker`]), which attaches and keeps keys, policy and guard: the service's own in this
//! process, each other one in a process of its own ([`netns`]). The main thread handles signals, reloads the configuration,
//! notifies systemd and serves metrics.

mod attached;
mod capabilities;
mod edges;
mod error;
mod file_watch;
mod guard_monitor;
mod keys;
mod listener_helper;
mod listeners;
pub mod log;
mod memory;
mod metrics;
mod mutex;
mod namespace;
mod netns;
mod notify;
mod own_cookies;
mod policy;
mod repeated;
mod route_watch;
mod scraper;
mod status;
mod worker;

pub use attached::{describe_attached, describe_hook_change};
pub use error::{ServiceError, StartError};
pub use listener_helper::{HELPER_COMMAND, serve_listener_helper};
pub use netns::NetnsHelper;

use std::{process, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use self::{
    listener_helper::ListenerHelper,
    metrics::ScrapeList,
    netns::{Failure, Failures, HelperEnded, Keeper},
    worker::{OWN_NAMESPACE, Worker},
};
use crate::{
    config::{Config, ConfigError, ConfigSource, NamespaceConfig},
    kernel::mounts::ShortLived,
};

/// The longest interval between notifications to systemd.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The main thread's state.
struct Service {
    config: Config,
    /// The service's own namespace, where it has interfaces.
    own: Option<Worker>,
    /// The others.
    keeper: Keeper,
    scrape_list: ScrapeList,
    /// Sets `TCP_FASTOPEN` in other processes; `None` where no section asked for it at the start.
    helper: Option<ListenerHelper>,
    /// The status line that systemd has.
    status: String,
}

/// Runs until SIGTERM or SIGINT. The configuration is read at the start and at each SIGHUP. `helper` makes processes in other
/// network namespaces, where the configuration names any.
///
/// # Errors
///
/// [`ServiceError`] where the service does not start, or the helper ended. Other errors are logged.
pub async fn run(source: &ConfigSource, helper: Option<NetnsHelper>) -> Result<(), ServiceError> {
    // Installed before anything is attached: a signal in between would not detach it.
    let on = |kind: SignalKind| signal(kind).map_err(ServiceError::Signals);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut service = Service::start(source, helper).await?;
    notify::ready(&service.status);
    let served = service
        .serve(source, [&mut terminate, &mut interrupt], &mut hangup)
        .await;
    notify::stopping();
    service.stop().await;
    served.map_err(|HelperEnded| ServiceError::NetnsHelperEnded)
}

/// Starts the helper if a namespace has `[listeners]`, while this thread has its capabilities.
fn start_helper(config: &Config) -> Result<Option<ListenerHelper>, ServiceError> {
    let mut namespaces = config.namespaces.iter();
    let wanted = namespaces.any(|namespace| namespace.listeners.is_some());
    let helper = wanted.then(ListenerHelper::start).transpose();
    helper.map_err(ServiceError::Helper)
}

/// The section of the service's own namespace.
fn own_section(config: &Config) -> Option<&NamespaceConfig> {
    config.namespaces.iter().find(|each| each.name.is_none())
}

/// Reads the configuration. Gives its text, too.
fn load(source: &ConfigSource) -> Result<(String, Config), ConfigError> {
    let text = source.read()?;
    let config = source.parse(&text)?;
    Ok((text, config))
}

impl Service {
    /// Attaches in all namespaces. Failures are tried again, unless all fail and none is to come.
    async fn start(
        source: &ConfigSource,
        netns_helper: Option<NetnsHelper>,
    ) -> Result<Self, ServiceError> {
        let (text, config) = load(source)?;
        if let Some(short_lived) = ShortLived::find() {
            warn!("{short_lived}: {}", short_lived.remedy("run"));
        }
        let exact = config.namespaces.iter().filter(|it| it.pattern.is_none());
        let exact = exact.count();
        // Before attaching: nothing is attached where the address is taken.
        let scrape_list = match &config.metrics {
            Some(address) => metrics::serve(address, exact).await?,
            None => ScrapeList::default(),
        };
        let helper = start_helper(&config)?;
        let keeper = Keeper::new(netns_helper, helper.clone(), config.metrics.is_some());
        let mut service = Self {
            own: None,
            keeper,
            scrape_list,
            helper,
            status: String::new(),
            config,
        };
        let mut failed = Vec::new();
        if let Some(own) = own_section(&service.config).cloned() {
            service.progress(0, exact);
            failed.extend(service.add_own(own).await?.err());
        }
        if let Err(error) = capabilities::drop_others() {
            error!("cannot drop capabilities: {error}");
        }
        let tried = usize::from(service.own.is_some());
        let list = service.scrape_list.clone();
        let sections = service.config.namespaces.clone();
        let mut told = None;
        let progress = |done, all: usize| {
            let now = (tried + done, all.max(exact.saturating_sub(tried)) + tried);
            if told.replace(now) != Some(now) {
                list.set_starting(now.0, now.1);
                notify::starting(now.0, now.1);
            }
        };
        let absent = service.keeper.start(text, &sections, progress).await;
        let absent = absent.map_err(|HelperEnded| ServiceError::NetnsHelperEnded)?;
        if exact == sections.len() && failed.len() + absent.len() == exact {
            service.stop_all(false).await;
            return Err(first_failure(failed, &sections, absent));
        }
        for error in failed.iter().filter(|error| !error.is_missing_interface()) {
            error!("{error}");
        }
        netns::log_failures(&absent);
        service.update_scrape_list();
        service.status = service.describe();
        Ok(service)
    }

    /// So many of all namespaces were tried.
    fn progress(&self, tried: usize, all: usize) {
        self.scrape_list.set_starting(tried, all);
        notify::starting(tried, all);
    }

    /// Starts the worker of the service's own namespace. The inner result is that of its first attempt to attach.
    async fn add_own(
        &mut self,
        namespace: NamespaceConfig,
    ) -> Result<Result<(), StartError>, ServiceError> {
        let (worker, started) = Worker::start(
            namespace,
            process::id(),
            self.config.metrics.is_some(),
            self.helper.clone(),
            Worker::spawn,
        )
        .map_err(ServiceError::Thread)?;
        self.own = Some(worker);
        let ended = || Err(StartError::Thread(OWN_NAMESPACE.to_owned()));
        Ok(started.await.unwrap_or_else(|_| ended()))
    }

    fn update_scrape_list(&self) {
        self.scrape_list.set(
            self.own.as_ref().map(Worker::handle),
            self.keeper.places(),
            [self.keeper.queued(), self.keeper.left_out()],
            &self.config.ports,
        );
    }

    async fn serve(
        &mut self,
        source: &ConfigSource,
        [terminate, interrupt]: [&mut Signal; 2],
        hangup: &mut Signal,
    ) -> Result<(), HelperEnded> {
        let watchdog = notify::watchdog();
        let ticks = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        // Twice within the watchdog's timeout.
        let mut heartbeat = ticks(watchdog.map_or(HEARTBEAT, |limit| HEARTBEAT.min(limit / 2)));
        let mut looks = ticks(netns::LOOK);
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    info!("SIGTERM");
                    return Ok(());
                }
                _ = interrupt.recv() => {
                    info!("SIGINT");
                    return Ok(());
                }
                _ = hangup.recv() => self.reload(load(source)).await?,
                _ = heartbeat.tick() => self.heartbeat(watchdog),
                _ = looks.tick(), if self.keeper.has_sections() => {
                    if self.keeper.look()? {
                        self.update_scrape_list();
                        self.notify_status();
                    }
                }
            }
        }
    }

    /// Notifies systemd of the status, where it changed.
    fn notify_status(&mut self) {
        let status = self.describe();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
    }

    /// Notifies systemd: of the status, and, where no thread hangs, that the service is alive.
    fn heartbeat(&mut self, watchdog: Option<Duration>) {
        self.notify_status();
        let Some(limit) = watchdog else { return };
        let hangs = |worker: &Worker| worker.state().at.elapsed() > limit.max(HEARTBEAT);
        if self.own.as_ref().is_some_and(hangs) {
            error!("the thread of network namespace {OWN_NAMESPACE} hangs");
        } else {
            notify::alive();
        }
    }

    /// Changes to another configuration, or keeps the present one as a whole.
    async fn reload(
        &mut self,
        loaded: Result<(String, Config), ConfigError>,
    ) -> Result<(), HelperEnded> {
        notify::reloading();
        match loaded {
            Err(error) => error!("not reloaded, nothing changed: {error}"),
            Ok((text, config)) => {
                self.apply(text, config).await?;
                info!("reloaded");
            }
        }
        self.status = self.describe();
        notify::ready(&self.status);
        Ok(())
    }

    async fn apply(&mut self, text: String, config: Config) -> Result<(), HelperEnded> {
        if config.metrics != self.config.metrics {
            warn!("the address of the metrics changes when the service is restarted");
        }
        let own = own_section(&config).cloned();
        if own.is_none()
            && let Some(worker) = self.own.take()
        {
            worker.stop(true).await;
        }
        self.keeper.apply(text, &config.namespaces).await?;
        match (own, &self.own) {
            (None, _) => {}
            (Some(section), Some(worker)) => worker.apply(section).await,
            (Some(section), None) => match self.add_own(section).await {
                Ok(Err(error)) if !error.is_missing_interface() => error!("{error}"),
                Ok(_) => {}
                Err(error) => error!("{error}"),
            },
        }
        self.config = config;
        self.update_scrape_list();
        Ok(())
    }

    async fn stop(mut self) {
        let detach = self.config.detach_on_exit;
        self.stop_all(detach).await;
        if !detach {
            info!("the data path stays attached: `tfo detach` removes it");
        }
    }

    async fn stop_all(&mut self, detach: bool) {
        if let Some(worker) = self.own.take() {
            worker.stop(detach).await;
        }
        self.keeper.stop(detach).await;
    }

    /// The status line for `systemctl status`.
    fn describe(&self) -> String {
        let own = self.own.as_ref().map(|worker| worker.state().into());
        status::line(own.as_ref(), &self.keeper)
    }
}

/// The first failure in the order of the file: of the service's own namespace, or of an exact name.
fn first_failure(
    failed: Vec<StartError>,
    sections: &[NamespaceConfig],
    mut absent: Failures,
) -> ServiceError {
    if let Some(error) = failed.into_iter().next() {
        return error.into();
    }
    let mut names = sections.iter().filter_map(|section| section.name.as_ref());
    let first = names.find_map(|name| Some((name, absent.remove(name)?)));
    let first = first.map(|(name, Failure { text, .. })| {
        if text.contains(name) {
            text
        } else {
            format!("network namespace {name}: {text}")
        }
    });
    ServiceError::Namespace(first.unwrap_or_default())
}
