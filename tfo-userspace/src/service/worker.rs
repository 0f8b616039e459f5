//! The thread of one network namespace. A namespace is a thread's, so whoever wants to know something of
//! it has the thread find out.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{sleep, sleep_until},
};
use tracing::{error, info, info_span};

use super::{
    StartError, capabilities,
    site::{RETRY, Site},
};
use crate::{
    config::NamespaceConfig,
    datapath::{ControllerLock, Namespace},
    kernel::netns,
    keys::KeyReport,
};

type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
type Job = Box<dyn for<'a> FnOnce(&'a mut Site) -> LocalFuture<'a, ()> + Send>;

/// The namespaces that have a worker, by cookie, and what they are called: two names may be of one.
pub(super) type Registry = Arc<Mutex<BTreeMap<u64, String>>>;

/// What a worker last said of its namespace.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Its keys.
    pub(super) keys: KeyReport,
    /// The interfaces that are attached.
    pub(super) attached: Vec<String>,
    /// The interfaces that should be attached and are not.
    pub(super) missing: Vec<String>,
    /// When it said so.
    pub(super) at: Instant,
}

struct Shared {
    config: Mutex<NamespaceConfig>,
    state: Mutex<State>,
}

/// A thread that looks after a network namespace.
pub(super) struct Worker {
    name: Option<String>,
    jobs: mpsc::UnboundedSender<Job>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// A way to ask a worker while there is one. It keeps none alive.
#[derive(Clone)]
pub(super) struct Inquiry {
    /// The namespace; empty for the one that the service was started in.
    pub(super) name: String,
    jobs: mpsc::WeakUnboundedSender<Job>,
    shared: Arc<Shared>,
}

impl Inquiry {
    /// The interfaces that should be attached.
    pub(super) fn interfaces(&self) -> Vec<String> {
        lock(&self.shared.config).interfaces.clone()
    }

    /// Has the thread do `work` inside the namespace. `None` where it has not entered it yet, or ended.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Site) -> LocalFuture<'a, T> + Send + 'static,
    ) -> Option<T> {
        ask(&self.jobs.upgrade()?, work).await
    }
}

async fn ask<T: Send + 'static>(
    jobs: &mpsc::UnboundedSender<Job>,
    work: impl for<'a> FnOnce(&'a mut Site) -> LocalFuture<'a, T> + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |site| {
        Box::pin(async move {
            // Who asked may not wait any more.
            let _ = sender.send(work(site).await);
        })
    });
    jobs.send(job).ok()?;
    receiver.await.ok()
}

impl Worker {
    /// Starts one. What it gives besides is how the first attempt to attach went; it goes on trying.
    pub(super) fn start(
        config: NamespaceConfig,
        registry: Registry,
    ) -> io::Result<(Self, oneshot::Receiver<Result<(), StartError>>)> {
        let name = config.name.clone();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                keys: KeyReport {
                    source: config.source.name(),
                    ..KeyReport::default()
                },
                attached: Vec::new(),
                missing: config.interfaces.clone(),
                at: Instant::now(),
            }),
            config: Mutex::new(config),
        });
        let (jobs, received) = mpsc::unbounded_channel();
        let (started, start) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = Work {
            shared: shared.clone(),
            jobs: received,
            started: Some(started),
            registry,
            main: Handle::current(),
        };
        let thread = thread::Builder::new()
            .name("tfo-namespace".to_owned())
            .spawn(move || {
                let span = work.name().map(|name| info_span!("netns", name));
                let _inside = span.as_ref().map(tracing::Span::enter);
                runtime.block_on(work.run());
            })?;
        let worker = Self {
            name,
            jobs,
            shared,
            thread,
        };
        Ok((worker, start))
    }

    /// The namespace; `None` for the one that the service was started in.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it last said: half a second ago at most, where all is well.
    pub(super) fn state(&self) -> State {
        lock(&self.shared.state).clone()
    }

    /// A way to ask it.
    pub(super) fn inquiry(&self) -> Inquiry {
        Inquiry {
            name: self.name.clone().unwrap_or_default(),
            jobs: self.jobs.downgrade(),
            shared: self.shared.clone(),
        }
    }

    /// Goes over to another configuration.
    pub(super) async fn apply(&self, config: NamespaceConfig) {
        lock(&self.shared.config).clone_from(&config);
        ask(&self.jobs, |site| Box::pin(site.apply(config))).await;
    }

    /// Ends it, and detaches first if it is to.
    pub(super) async fn stop(self, detach: bool) {
        if detach {
            ask(&self.jobs, |site| Box::pin(site.detach_all())).await;
        }
        drop(self.jobs);
        if self.thread.join().is_err() {
            error!("the thread of a network namespace panicked");
        }
    }
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    started: Option<oneshot::Sender<Result<(), StartError>>>,
    registry: Registry,
    /// That of the main thread.
    main: Handle,
}

impl Work {
    fn name(&self) -> Option<String> {
        lock(&self.shared.config).name.clone()
    }

    async fn run(mut self) {
        let Some((namespace, _control)) = self.enter().await else {
            return;
        };
        let config = lock(&self.shared.config).clone();
        let mut site = Site::new(namespace, config, self.main.clone());
        let attached = site.begin().await;
        // From here on it takes no more than another namespace's thread, whether that worked or not.
        match capabilities::drop_others() {
            Ok(left) => info!("capabilities left: {}", left.join(" ")),
            Err(error) => error!("cannot drop capabilities: {error}"),
        }
        self.publish(&site);
        self.tell(attached);
        let mut due = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                job = self.jobs.recv() => match job {
                    Some(job) => job(&mut site).await,
                    None => return,
                },
                event = site.event() => site.take(event).await,
                () = sleep_until(due) => due = tokio::time::Instant::now() + site.tick(),
            }
            self.publish(&site);
        }
    }

    /// Enters the namespace, and waits for it where it is not there. `None` where the service ends.
    async fn enter(&mut self) -> Option<(Namespace, ControllerLock)> {
        let mut said = None;
        loop {
            let error = match self.try_enter() {
                Ok(entered) => return Some(entered),
                Err(error) => error,
            };
            let text = error.to_string();
            // Whoever waits for the start says the first one.
            if said.as_ref() != Some(&text) && self.started.is_none() {
                error!("{text}");
            }
            said = Some(text);
            self.tell(Err(error));
            lock(&self.shared.state).at = Instant::now();
            let retry = sleep(RETRY);
            tokio::pin!(retry);
            loop {
                tokio::select! {
                    // Dropped: who asked learns that the namespace is not there.
                    job = self.jobs.recv() => drop(job?),
                    () = &mut retry => break,
                }
            }
        }
    }

    fn try_enter(&self) -> Result<(Namespace, ControllerLock), StartError> {
        let name = self.name();
        if let Some(name) = &name {
            netns::enter(name)?;
        }
        let called = name.unwrap_or_else(|| "the service's own".to_owned());
        let mut registry = lock(&self.registry);
        let place = match registry.entry(netns::cookie()?) {
            Entry::Vacant(place) => place,
            Entry::Occupied(other) => {
                return Err(StartError::SameNamespace {
                    name: called,
                    other: other.get().clone(),
                });
            }
        };
        let namespace = Namespace::current()?;
        let control = ControllerLock::take(&namespace, &lock(&self.shared.config).interfaces)?;
        place.insert(called);
        Ok((namespace, control))
    }

    fn publish(&self, site: &Site) {
        *lock(&self.shared.state) = State {
            keys: site.keys(),
            attached: site.interfaces().map(str::to_owned).collect(),
            missing: site.missing().map(str::to_owned).collect(),
            at: Instant::now(),
        };
    }

    fn tell(&mut self, result: Result<(), StartError>) {
        if let Some(started) = self.started.take() {
            // Who asked may not wait any more.
            let _ = started.send(result);
        }
    }
}

/// Panics elsewhere leave plain values whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
