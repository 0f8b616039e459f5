//! `tfo run`: keeps the data path attached and the keys in force, until SIGTERM.
//!
//! Each network namespace has a thread ([`Worker`]), which attaches and keeps keys, policy and guard. The main thread
//! handles signals, reloads the configuration, notifies systemd and serves metrics.

mod attached;
mod capabilities;
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
mod notify;
mod own_cookies;
mod policy;
mod scraper;
mod worker;

pub use attached::{describe_attached, describe_hook_change};
pub use error::{ServiceError, StartError};
pub use listener_helper::{HELPER_COMMAND, serve_listener_helper};

use std::{fmt::Write as _, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use self::{
    listener_helper::ListenerHelper,
    metrics::ScrapeList,
    mutex::lock,
    worker::{OWN_NAMESPACE, Registry, Worker},
};
use crate::config::{Config, ConfigError, NamespaceConfig};

/// The longest interval between notifications to systemd.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The main thread's state.
struct Service {
    config: Config,
    workers: Vec<Worker>,
    registry: Registry,
    scrape_list: ScrapeList,
    /// Sets `TCP_FASTOPEN` in other processes; `None` where no section asked for it at the start.
    helper: Option<ListenerHelper>,
    /// The status line that systemd has.
    status: String,
}

/// Runs until SIGTERM or SIGINT. `load` reads the configuration, at the start and at each SIGHUP.
///
/// # Errors
///
/// [`ServiceError`] where the service does not start. Later errors are logged.
pub async fn run(load: impl Fn() -> Result<Config, ConfigError>) -> Result<(), ServiceError> {
    // Installed before anything is attached: a signal in between would not detach it.
    let on = |kind: SignalKind| signal(kind).map_err(ServiceError::Signals);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut service = Service::start(load()?).await?;
    if let Err(error) = capabilities::drop_others() {
        error!("cannot drop capabilities: {error}");
    }
    notify::ready(&service.status);
    service
        .serve(&load, [&mut terminate, &mut interrupt], &mut hangup)
        .await;
    notify::stopping();
    service.stop().await;
    Ok(())
}

/// Starts the helper if a namespace has `[listeners]`, while this thread has its capabilities.
fn start_helper(config: &Config) -> Result<Option<ListenerHelper>, ServiceError> {
    let mut namespaces = config.namespaces.iter();
    let wanted = namespaces.any(|namespace| namespace.listeners.is_some());
    let helper = wanted.then(ListenerHelper::start).transpose();
    helper.map_err(ServiceError::Helper)
}

impl Service {
    /// Attaches in all namespaces. Failures are tried again, unless all fail.
    async fn start(config: Config) -> Result<Self, ServiceError> {
        // Before attaching: nothing is attached where the address is taken.
        let scrape_list = match &config.metrics {
            Some(address) => metrics::serve(address, config.namespaces.len()).await?,
            None => ScrapeList::default(),
        };
        let mut service = Self {
            config: config.clone(),
            workers: Vec::new(),
            registry: Registry::default(),
            scrape_list,
            helper: start_helper(&config)?,
            status: String::new(),
        };
        let mut failed = Vec::new();
        let all = config.namespaces.len();
        for (tried, namespace) in config.namespaces.into_iter().enumerate() {
            service.scrape_list.set_starting(tried, all);
            notify::starting(tried, all);
            let result = service.add(namespace).await?;
            failed.extend(result.err());
        }
        if failed.len() == service.workers.len() {
            for worker in service.workers.drain(..) {
                worker.stop(false).await;
            }
            return Err(failed.swap_remove(0).into());
        }
        for error in failed.iter().filter(|error| !error.is_missing_interface()) {
            error!("{error}");
        }
        service.update_scrape_list();
        service.status = service.describe();
        Ok(service)
    }

    /// Starts a worker. The inner result is that of its first attempt to attach.
    async fn add(
        &mut self,
        namespace: NamespaceConfig,
    ) -> Result<Result<(), StartError>, ServiceError> {
        let name = namespace.name.clone().unwrap_or_default();
        let (worker, started) = Worker::start(
            namespace,
            self.registry.clone(),
            self.config.metrics.is_some(),
            self.helper.clone(),
        )
        .map_err(ServiceError::Thread)?;
        self.workers.push(worker);
        Ok(started.await.unwrap_or(Err(StartError::Thread(name))))
    }

    fn update_scrape_list(&self) {
        let workers = self.workers.iter().map(Worker::handle).collect();
        self.scrape_list.set(workers, &self.config.ports);
    }

    async fn serve(
        &mut self,
        load: &impl Fn() -> Result<Config, ConfigError>,
        [terminate, interrupt]: [&mut Signal; 2],
        hangup: &mut Signal,
    ) {
        let watchdog = notify::watchdog();
        // Twice within the watchdog's timeout.
        let mut heartbeat = interval(watchdog.map_or(HEARTBEAT, |limit| HEARTBEAT.min(limit / 2)));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => return info!("SIGTERM"),
                _ = interrupt.recv() => return info!("SIGINT"),
                _ = hangup.recv() => self.reload(load()).await,
                _ = heartbeat.tick() => self.heartbeat(watchdog),
            }
        }
    }

    /// Notifies systemd: of the status, and, where no thread hangs, that the service is alive.
    fn heartbeat(&mut self, watchdog: Option<Duration>) {
        let status = self.describe();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
        let Some(limit) = watchdog else { return };
        let hangs = |worker: &&Worker| worker.state().at.elapsed() > limit.max(HEARTBEAT);
        match self.workers.iter().find(hangs) {
            None => notify::alive(),
            Some(worker) => error!(
                "the thread of network namespace {} hangs",
                worker.name().unwrap_or(OWN_NAMESPACE)
            ),
        }
    }

    /// Changes to another configuration, or keeps the present one as a whole.
    async fn reload(&mut self, loaded: Result<Config, ConfigError>) {
        notify::reloading();
        match loaded {
            Err(error) => error!("not reloaded, nothing changed: {error}"),
            Ok(config) => {
                self.apply(config).await;
                info!("reloaded");
            }
        }
        self.status = self.describe();
        notify::ready(&self.status);
    }

    async fn apply(&mut self, config: Config) {
        if config.metrics != self.config.metrics {
            warn!("the address of the metrics changes when the service is restarted");
        }
        let named = |worker: &Worker| {
            let mut namespaces = config.namespaces.iter();
            namespaces.any(|namespace| namespace.name.as_deref() == worker.name())
        };
        let (kept, gone): (Vec<_>, Vec<_>) = self.workers.drain(..).partition(named);
        self.workers = kept;
        for worker in gone {
            // The namespace may be configured under another name.
            let name = worker.name().unwrap_or(OWN_NAMESPACE).to_owned();
            worker.stop(true).await;
            lock(&self.registry).retain(|_, registered| *registered != name);
        }
        for namespace in &config.namespaces {
            let same = |worker: &&Worker| worker.name() == namespace.name.as_deref();
            match self.workers.iter().find(same) {
                Some(worker) => worker.apply(namespace.clone()).await,
                None => match self.add(namespace.clone()).await {
                    Ok(Err(StartError::Netns(error))) => error!(
                        "{error}: entering a namespace takes CAP_SYS_ADMIN, which is dropped after the start: restart the service"
                    ),
                    Ok(Err(error)) if !error.is_missing_interface() => error!("{error}"),
                    Ok(_) => {}
                    Err(error) => error!("{error}"),
                },
            }
        }
        self.config = config;
        self.update_scrape_list();
    }

    async fn stop(self) {
        let detach = self.config.detach_on_exit;
        for worker in self.workers {
            worker.stop(detach).await;
        }
        if !detach {
            info!("the data path stays attached: `tfo detach` removes it");
        }
    }

    /// The status line for `systemctl status`.
    fn describe(&self) -> String {
        let mut line = String::new();
        for worker in &self.workers {
            let state = worker.state();
            if !line.is_empty() {
                line.push_str("; ");
            }
            if let Some(name) = worker.name() {
                let _ = write!(line, "{name}: ");
            }
            let _ = write!(line, "{} attached", state.attached.join(" "));
            if !state.missing.is_empty() {
                let missing: Vec<_> = state.missing.keys().map(String::as_str).collect();
                let _ = write!(line, ", {} not", missing.join(" "));
            }
            let _ = write!(line, ", {} keys", state.keys.source);
            if let Some(primary) = state.keys.primary {
                let _ = write!(line, " (primary {primary})");
            }
            if state.keys.last_error.is_some() {
                line.push_str(" with an error");
            }
        }
        line
    }
}
