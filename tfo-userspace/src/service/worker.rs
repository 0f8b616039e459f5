//! The thread of one network namespace. A thread is in one namespace, so other threads send it the work that has to
//! run there. The service's own namespace has it in the service, each other one in a process of its own.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{sleep, sleep_until},
};
use tracing::{error, info, info_span};

use super::{
    capabilities, error::StartError, listener_helper::ListenerHelper, mutex::lock,
    namespace::NamespaceService, scraper::Scraper,
};
use crate::{
    config::NamespaceConfig,
    datapath::{ControllerLock, Namespace, NamespaceError},
    farm::FarmReport,
    keys::KeyReport,
    metrics::{self, NamespaceFacts, ScrapeTarget},
};

type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
/// Work for a namespace's thread. What it gives is to be called once the state is published: it sends the result.
type Job = Box<dyn for<'a> FnOnce(&'a mut NamespaceService) -> LocalFuture<'a, Reply> + Send>;
type Reply = Box<dyn FnOnce()>;

/// The work of a thread.
pub(super) type ThreadWork = Box<dyn FnOnce() + Send>;

/// The pause before another attempt to take control of a namespace.
const RETRY: Duration = Duration::from_secs(5);

/// The name of the service's own namespace in messages.
pub(super) const OWN_NAMESPACE: &str = "the service's own";

/// The state that a worker last published.
#[derive(Clone, Debug)]
pub(super) struct WorkerState {
    pub(super) keys: KeyReport,
    /// The attached interfaces.
    pub(super) attached: Vec<String>,
    /// The configured interfaces that are not attached, and why.
    pub(super) missing: BTreeMap<String, String>,
    /// Why the configured policy is not in force.
    pub(super) policy_refused: Option<String>,
    /// Why the configured guard is not in force.
    pub(super) guard_refused: Option<String>,
    /// Why the configured own cookies are not in force.
    pub(super) own_cookies_refused: Option<String>,
    /// Why listeners that the configuration names have no Fast Open.
    pub(super) listeners_refused: Option<String>,
    pub(super) farm: Option<FarmReport>,
    /// The time of publication.
    pub(super) at: Instant,
}

/// State that the worker's thread shares with the main thread.
struct WorkerShared {
    config: Mutex<NamespaceConfig>,
    state: Mutex<WorkerState>,
    /// Reads the facts for metrics, from when the namespace was under control until the worker ends.
    scraper: Mutex<Option<Scraper>>,
}

/// A network namespace's thread, from the main thread's side.
pub(super) struct Worker {
    name: Option<String>,
    jobs: mpsc::UnboundedSender<Job>,
    shared: Arc<WorkerShared>,
    thread: JoinHandle<()>,
}

/// A handle to what a worker publishes. It does not keep the worker alive.
#[derive(Clone)]
pub(super) struct WorkerHandle {
    /// The namespace's name; empty for the service's own.
    name: String,
    shared: Arc<WorkerShared>,
}

impl WorkerHandle {
    /// The published state.
    pub(super) fn state(&self) -> WorkerState {
        lock(&self.shared.state).clone()
    }

    /// `None` where the worker does not control the namespace yet, or ended.
    fn scraper(&self) -> Option<Scraper> {
        lock(&self.shared.scraper).clone()
    }

    /// Reads the namespace's facts; those of `ports` one by one.
    pub(super) async fn facts(&self, ports: Vec<u16>) -> NamespaceFacts {
        let target = ScrapeTarget {
            netns: self.name.clone(),
            interfaces: lock(&self.shared.config).interfaces.clone(),
            ports,
        };
        let read = match self.scraper() {
            Some(scraper) => scraper.read(target.clone()).await,
            None => None,
        };
        let Some(mut facts) = read else {
            let reason = "the network namespace is not under control: see the log";
            return metrics::unreadable(&target, &reason);
        };
        let state = self.state();
        facts.keys = Some(state.keys);
        facts.policy_refused = state.policy_refused;
        facts.guard_refused = state.guard_refused;
        facts.own_cookies_refused = state.own_cookies_refused;
        facts.listeners_refused = state.listeners_refused;
        facts.farm = state.farm;
        facts.not_attached = state.missing;
        facts
    }
}

/// Sends `work` to the thread that receives `jobs`, and waits for its result.
async fn run_on<T: Send + 'static>(
    jobs: &mpsc::UnboundedSender<Job>,
    work: impl for<'a> FnOnce(&'a mut NamespaceService) -> LocalFuture<'a, T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |service| {
        Box::pin(async move {
            let result = work(service).await;
            let reply: Reply = Box::new(move || {
                // The receiver may be gone.
                let _ = sender.send(result);
            });
            reply
        })
    });
    jobs.send(job).ok()?;
    receiver.await.ok()
}

impl Worker {
    /// Has `spawn` start the thread, in the namespace, and with `scraped` one that reads facts for metrics. The receiver gets
    /// the result of the first attempt to attach; later attempts are logged. `pid` is the process to end for the controller
    /// to end.
    pub(super) fn start(
        config: NamespaceConfig,
        pid: u32,
        scraped: bool,
        helper: Option<ListenerHelper>,
        spawn: impl FnOnce(ThreadWork) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<(Self, oneshot::Receiver<Result<(), StartError>>)> {
        let name = config.name.clone();
        let shared = Arc::new(WorkerShared {
            state: Mutex::new(WorkerState {
                keys: KeyReport {
                    source: config.source.name(),
                    ..KeyReport::default()
                },
                attached: Vec::new(),
                missing: BTreeMap::new(),
                policy_refused: None,
                guard_refused: None,
                own_cookies_refused: None,
                listeners_refused: None,
                farm: None,
                at: Instant::now(),
            }),
            config: Mutex::new(config),
            scraper: Mutex::new(None),
        });
        let (jobs, received) = mpsc::unbounded_channel();
        let (started, start) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = WorkerThread {
            shared: shared.clone(),
            jobs: received,
            started: Some(started),
            pid,
            scraped,
            helper,
            main: Handle::current(),
        };
        let thread = spawn(Box::new(move || {
            let netns = thread.name().map(|name| info_span!("netns", name));
            let _entered = netns.as_ref().map(tracing::Span::enter);
            runtime.block_on(thread.run());
        }))?;
        let worker = Self {
            name,
            jobs,
            shared,
            thread,
        };
        Ok((worker, start))
    }

    /// Starts a thread in the calling thread's namespace.
    pub(super) fn spawn(work: ThreadWork) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("tfo-namespace".to_owned());
        thread.spawn(work)
    }

    /// The published state. The thread publishes at least twice a second.
    pub(super) fn state(&self) -> WorkerState {
        lock(&self.shared.state).clone()
    }

    pub(super) fn handle(&self) -> WorkerHandle {
        WorkerHandle {
            name: self.name.clone().unwrap_or_default(),
            shared: self.shared.clone(),
        }
    }

    /// Changes to another configuration.
    pub(super) async fn apply(&self, config: NamespaceConfig) {
        lock(&self.shared.config).clone_from(&config);
        run_on(&self.jobs, |service| Box::pin(service.apply(config))).await;
    }

    /// Ends the thread; with `detach`, detaches from all interfaces first.
    pub(super) async fn stop(self, detach: bool) {
        if detach {
            run_on(&self.jobs, |service| Box::pin(service.detach_all())).await;
        }
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the thread of a network namespace panicked");
        }
    }
}

/// The thread's side.
struct WorkerThread {
    shared: Arc<WorkerShared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    started: Option<oneshot::Sender<Result<(), StartError>>>,
    /// For the controller's lock.
    pid: u32,
    scraped: bool,
    helper: Option<ListenerHelper>,
    /// The main thread's runtime.
    main: Handle,
}

impl WorkerThread {
    fn name(&self) -> Option<String> {
        lock(&self.shared.config).name.clone()
    }

    async fn run(mut self) {
        let Some((namespace, _control)) = self.take_control().await else {
            return;
        };
        let config = lock(&self.shared.config).clone();
        let mut service =
            NamespaceService::new(namespace, config, self.main.clone(), self.helper.take());
        let attached = service.begin().await;
        // Dropped also where that failed: later attempts need no more capabilities than these.
        match capabilities::drop_others() {
            Ok(left) => info!("capabilities left: {}", left.join(" ")),
            Err(error) => error!("cannot drop capabilities: {error}"),
        }
        self.publish(&service);
        // It inherits what capabilities are left.
        self.start_scraper(service.namespace());
        self.report_start(attached);
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                job = self.jobs.recv() => match job {
                    Some(job) => {
                        let reply = job(&mut service).await;
                        self.publish(&service);
                        reply();
                    }
                    None => return,
                },
                event = service.next_event() => service.handle(event).await,
                () = sleep_until(due) => due = tokio::time::Instant::now() + service.tick().await,
            }
            self.publish(&service);
        }
    }

    fn start_scraper(&self, namespace: &Namespace) {
        if !self.scraped {
            return;
        }
        match Scraper::start(namespace.clone()) {
            Ok(scraper) => *lock(&self.shared.scraper) = Some(scraper),
            Err(error) => error!("metrics: cannot start a thread: {error}"),
        }
    }

    /// Takes control of the namespace, and tries again until no other controller has it. `None` where the service ends.
    async fn take_control(&mut self) -> Option<(Namespace, ControllerLock)> {
        let mut logged = None;
        loop {
            let error = match self.try_control() {
                Ok(taken) => return Some(taken),
                Err(error) => error,
            };
            let text = error.to_string();
            // The first error is reported to the main thread instead.
            if logged.as_ref() != Some(&text) && self.started.is_none() {
                error!("{text}");
            }
            logged = Some(text);
            self.report_start(Err(error));
            lock(&self.shared.state).at = Instant::now();
            let retry = sleep(RETRY);
            tokio::pin!(retry);
            loop {
                tokio::select! {
                    // Dropping the job tells its sender that the namespace is not under control.
                    job = self.jobs.recv() => drop(job?),
                    () = &mut retry => break,
                }
            }
        }
    }

    fn try_control(&self) -> Result<(Namespace, ControllerLock), StartError> {
        let namespace = Namespace::current().map_err(NamespaceError::from)?;
        let interfaces = lock(&self.shared.config).interfaces.clone();
        let control = ControllerLock::take(&namespace, &interfaces, self.pid)?;
        Ok((namespace, control))
    }

    fn publish(&self, service: &NamespaceService) {
        lock(&self.shared.config).interfaces = service.interfaces().to_vec();
        *lock(&self.shared.state) = WorkerState {
            keys: service.key_report(),
            attached: service.attached().map(str::to_owned).collect(),
            missing: service.missing().clone(),
            policy_refused: service.policy_refused(),
            guard_refused: service.guard_refused(),
            own_cookies_refused: service.own_cookies_refused(),
            listeners_refused: service.listeners_refused(),
            farm: service.farm_report(),
            at: Instant::now(),
        };
    }

    /// Reports the first attempt to the main thread.
    fn report_start(&mut self, result: Result<(), StartError>) {
        if let Some(started) = self.started.take() {
            // The receiver may be gone.
            let _ = started.send(result);
        }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        *lock(&self.shared.scraper) = None;
    }
}
