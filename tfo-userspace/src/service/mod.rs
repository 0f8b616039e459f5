//! `tfo run`: attached, with the right keys in force, until it is told to end.
//!
//! Each network namespace has a thread of its own ([`Worker`]), which attaches and looks after the keys.
//! The main thread waits for signals, reads the configuration again, and talks to systemd.

mod attached;
mod capabilities;
mod guard;
pub mod log;
mod memory;
mod metrics;
mod notify;
mod policy;
mod site;
mod watch;
mod worker;

pub use attached::describe_attached;

use std::{fmt::Write as _, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use self::{
    metrics::Asked,
    worker::{Registry, Worker, lock},
};
use crate::{
    config::{Config, ConfigError, NamespaceConfig},
    datapath::{AttachError, ControllerError, NamespaceError},
    kernel::netns::NetnsError,
    metrics::ListenError,
};

/// How often systemd hears of the service, at least.
const BEAT: Duration = Duration::from_secs(10);

/// Why a namespace is not looked after yet.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Nothing could be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Another controller looks after it.
    #[error(transparent)]
    Control(#[from] ControllerError),
    /// Its keys cannot be read.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It is looked after already, under another name.
    #[error(
        "network namespace {name} is the same as {other}: put all interfaces under one of the names"
    )]
    SameNamespace {
        /// What it is called here.
        name: String,
        /// What it is called where it is looked after.
        other: String,
    },
    /// Its thread ended.
    #[error("the thread of network namespace {0} ended")]
    Thread(String),
}

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// No signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Nothing could be attached anywhere.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The service: the namespaces that it looks after, and how.
struct Service {
    config: Config,
    workers: Vec<Worker>,
    registry: Registry,
    asked: Asked,
    status: String,
}

/// Runs until SIGTERM or SIGINT. `load` reads the configuration: now, and again at SIGHUP.
///
/// # Errors
///
/// [`ServiceError`] where it cannot begin; once it runs, errors go to the log.
pub async fn run(load: impl Fn() -> Result<Config, ConfigError>) -> Result<(), ServiceError> {
    // Asked for before anything is attached, so that no signal comes in between.
    let on = |kind: SignalKind| signal(kind).map_err(ServiceError::Signals);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut service = Service::start(load()?).await?;
    match capabilities::drop_others() {
        Ok(_) => {}
        Err(error) => error!("cannot drop capabilities: {error}"),
    }
    notify::ready(&service.status);
    service
        .serve(&load, [&mut terminate, &mut interrupt], &mut hangup)
        .await;
    notify::stopping();
    service.stop().await;
    Ok(())
}

impl Service {
    /// Attaches everywhere. What does not work is tried again later, unless nothing does.
    async fn start(config: Config) -> Result<Self, ServiceError> {
        // First of all: where the address is taken, nothing is attached.
        let asked = match &config.metrics {
            Some(listen) => metrics::serve(listen).await?,
            None => Asked::default(),
        };
        let mut service = Self {
            config: config.clone(),
            workers: Vec::new(),
            registry: Registry::default(),
            asked,
            status: String::new(),
        };
        let mut failed = Vec::new();
        for namespace in config.namespaces {
            let result = service.add(namespace).await?;
            failed.extend(result.err());
        }
        if failed.len() == service.workers.len() {
            for worker in service.workers.drain(..) {
                worker.stop(false).await;
            }
            return Err(failed.swap_remove(0).into());
        }
        for error in failed {
            error!("{error}");
        }
        service.tell_whom_to_ask();
        service.status = service.describe();
        Ok(service)
    }

    /// Looks after another namespace. The inner result says whether it is attached yet.
    async fn add(
        &mut self,
        namespace: NamespaceConfig,
    ) -> Result<Result<(), StartError>, ServiceError> {
        let name = namespace.name.clone().unwrap_or_default();
        let (worker, started) =
            Worker::start(namespace, self.registry.clone()).map_err(ServiceError::Thread)?;
        self.workers.push(worker);
        Ok(started.await.unwrap_or(Err(StartError::Thread(name))))
    }

    fn tell_whom_to_ask(&self) {
        let workers = self.workers.iter().map(Worker::inquiry).collect();
        self.asked.set(workers, &self.config.ports);
    }

    async fn serve(
        &mut self,
        load: &impl Fn() -> Result<Config, ConfigError>,
        [terminate, interrupt]: [&mut Signal; 2],
        hangup: &mut Signal,
    ) {
        let watchdog = notify::watchdog();
        // Twice within the time that systemd allows.
        let mut beat = interval(watchdog.map_or(BEAT, |limit| BEAT.min(limit / 2)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => return info!("SIGTERM"),
                _ = interrupt.recv() => return info!("SIGINT"),
                _ = hangup.recv() => self.reload(load()).await,
                _ = beat.tick() => self.beat(watchdog),
            }
        }
    }

    /// Says that it is alive, where every thread is.
    fn beat(&mut self, watchdog: Option<Duration>) {
        let status = self.describe();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
        let Some(limit) = watchdog else { return };
        let hangs = |worker: &&Worker| worker.state().at.elapsed() > limit.max(BEAT);
        match self.workers.iter().find(hangs) {
            None => notify::alive(),
            Some(worker) => error!(
                "the thread of network namespace {} hangs",
                worker.name().unwrap_or("of the service")
            ),
        }
    }

    /// Goes over to another configuration, or keeps the one before as a whole.
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
            warn!("the address of the metrics changes at the next start");
        }
        let named = |worker: &Worker| {
            let mut namespaces = config.namespaces.iter();
            namespaces.any(|namespace| namespace.name.as_deref() == worker.name())
        };
        let (kept, gone): (Vec<_>, Vec<_>) = self.workers.drain(..).partition(named);
        self.workers = kept;
        for worker in gone {
            // Its namespace may come back under another name.
            let name = worker.name().unwrap_or("the service's own").to_owned();
            worker.stop(true).await;
            lock(&self.registry).retain(|_, called| *called != name);
        }
        for namespace in &config.namespaces {
            let same = |worker: &&Worker| worker.name() == namespace.name.as_deref();
            match self.workers.iter().find(same) {
                Some(worker) => worker.apply(namespace.clone()).await,
                None => match self.add(namespace.clone()).await {
                    Ok(Err(StartError::Netns(error))) => error!(
                        "{error}: entering a namespace takes CAP_SYS_ADMIN, which is dropped after the start: restart"
                    ),
                    Ok(Err(error)) => error!("{error}"),
                    Ok(Ok(())) => {}
                    Err(error) => error!("{error}"),
                },
            }
        }
        self.config = config;
        self.tell_whom_to_ask();
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

    /// A line for `systemctl status`.
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
                let _ = write!(line, ", {} not", state.missing.join(" "));
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
