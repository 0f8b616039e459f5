//! Keeps a process in each network namespace that the configuration names.
//!
//! It looks ten times a second: a mount gives no inotify event, and `ip netns add` mounts the namespace on a file that it has
//! made before. A namespace is known by the device and inode of its file, which no other has while a process is in it: so one
//! that was made again under the same name is another one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::timeout};
use tracing::{error, info, info_span};

use super::{
    helper::{NetnsHelper, Refusal},
    log::{Told, log_failures},
    messages::{Failure, SectionText},
    remote::Remote,
    running::{Ending, Running},
    scan::{Found, Scan, scan},
};
use crate::{
    config::NamespaceConfig,
    datapath,
    service::{error::StartError, listener_helper::ListenerHelper},
};

/// The time between two looks.
pub(in crate::service) const LOOK: Duration = Duration::from_millis(100);
/// The pause after a look, in times that it took: looks at thousands of files take 5 % of a CPU.
const REST: u32 = 20;
/// The pause before another attempt to make a process in a namespace.
const RETRY: Duration = Duration::from_secs(5);
/// The time without a sign of life after which a process is replaced.
const SILENCE: Duration = Duration::from_secs(60);
/// The time after which pins of namespaces that went are swept: the kernel takes a while to remove them.
const SWEEP: Duration = Duration::from_secs(2);
/// The time between two sweeps in any case: the kernel may still be removing one that went before the start.
const SWEEP_AGAIN: Duration = Duration::from_secs(10);
/// The longest time between two steps of the start.
const STEP: Duration = Duration::from_millis(20);
/// Loading takes 25 MB for a moment, so not all processes load at once.
const MAX_STARTING: usize = 8;

/// Why exact names are not attached.
pub(in crate::service) type Failures = BTreeMap<String, Failure>;

/// The helper ended, and with it the processes in all namespaces.
#[derive(Debug)]
pub(in crate::service) struct HelperEnded;

/// Keeps the processes.
pub(in crate::service) struct Keeper {
    helper: Option<NetnsHelper>,
    listeners: Option<ListenerHelper>,
    scraped: bool,
    /// The text of the configuration, and all its namespaces.
    text: String,
    pub(super) sections: Vec<NamespaceConfig>,
    pub(super) running: BTreeMap<String, Running>,
    /// The first attempt of one of them has a result.
    tried: Arc<Notify>,
    ending: Vec<Ending>,
    /// The time of the next attempt to make a process.
    retries: BTreeMap<String, Instant>,
    pub(super) scan: Scan,
    told: Told,
    /// The failed first attempts, and missing namespaces, of exact names during the start.
    failed: Failures,
    is_starting: bool,
    /// The earliest time of the next look.
    rest: Option<Instant>,
    sweep: Option<Instant>,
}

impl Keeper {
    pub(in crate::service) fn new(
        helper: Option<NetnsHelper>,
        listeners: Option<ListenerHelper>,
        scraped: bool,
    ) -> Self {
        Self {
            helper,
            listeners,
            scraped,
            text: String::new(),
            sections: Vec::new(),
            running: BTreeMap::new(),
            tried: Arc::default(),
            ending: Vec::new(),
            retries: BTreeMap::new(),
            scan: Scan::default(),
            told: Told::default(),
            failed: BTreeMap::new(),
            is_starting: true,
            rest: None,
            sweep: None,
        }
    }

    /// Takes the namespaces of the configuration, and waits for the first attempt in each. `progress` is told how many were
    /// tried, of how many. Gives why exact names are not attached.
    ///
    /// # Errors
    ///
    /// [`HelperEnded`].
    pub(in crate::service) async fn start(
        &mut self,
        text: String,
        sections: &[NamespaceConfig],
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Failures, HelperEnded> {
        (self.text, self.sections) = (text, sections.to_vec());
        self.is_starting = true;
        self.sweep = Some(Instant::now());
        loop {
            self.look()?;
            let waits = self.waiting();
            progress(
                self.scan.found.len().saturating_sub(waits),
                self.scan.found.len(),
            );
            if waits == 0 {
                break;
            }
            // The next one starts at once.
            let _ = timeout(STEP, self.tried.notified()).await;
        }
        self.is_starting = false;
        Ok(std::mem::take(&mut self.failed))
    }

    /// Changes to another configuration.
    ///
    /// # Errors
    ///
    /// [`HelperEnded`].
    pub(in crate::service) async fn apply(
        &mut self,
        text: String,
        sections: &[NamespaceConfig],
    ) -> Result<(), HelperEnded> {
        (self.text, self.sections) = (text, sections.to_vec());
        self.retries.clear();
        let present = self.scan();
        self.release(&present);
        let ending = self.ending.drain(..).map(|ending| ending.task);
        join_all(ending).await;
        let configured = self.running.values().map(|running| {
            let section = self.section(&running.found);
            running.remote.configure(section)
        });
        // One that ended meanwhile is seen by the next look.
        join_all(configured).await;
        let (text, sections) = (self.text.clone(), self.sections.clone());
        let failed = self.start(text, &sections, |_, _| {}).await?;
        log_failures(&failed);
        Ok(())
    }

    /// Sees which namespaces came and went. Gives whether any did.
    ///
    /// # Errors
    ///
    /// [`HelperEnded`].
    pub(in crate::service) fn look(&mut self) -> Result<bool, HelperEnded> {
        if self
            .helper
            .as_ref()
            .is_some_and(|helper| !helper.is_alive())
        {
            return Err(HelperEnded);
        }
        if !self.is_starting && self.rest.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        self.ending.retain(|ending| !ending.task.is_finished());
        self.take_results();
        let begin = Instant::now();
        let scan = self.scan();
        self.rest = Some(Instant::now() + begin.elapsed() * REST);
        self.told.scan(&scan, &self.sections, self.is_starting);
        if self.is_starting {
            let absent = scan.absent.iter().map(|(name, text)| {
                let failure = Failure {
                    text: text.clone(),
                    logged: false,
                };
                (name.clone(), failure)
            });
            self.failed.extend(absent);
        }
        let released = self.release(&scan);
        let absent = scan.absent != self.scan.absent;
        self.scan = scan;
        let added = self.add()?;
        self.sweep();
        Ok(released || added || absent)
    }

    fn scan(&self) -> Scan {
        let mut scan = scan(&self.sections, |name| self.running.contains_key(name));
        if self.helper.is_none() {
            for found in std::mem::take(&mut scan.found) {
                let refusal = Refusal::NotConfigured(found.name.clone());
                scan.absent.insert(found.name, refusal.to_string());
            }
        }
        scan
    }

    /// Those that were not tried yet.
    fn waiting(&self) -> usize {
        let waits = |found: &&Found| match self.running.get(&found.name) {
            Some(running) => running.is_starting(),
            None => !self.retries.contains_key(&found.name),
        };
        self.scan.found.iter().filter(waits).count()
    }

    /// Takes the results of first attempts.
    fn take_results(&mut self) {
        for (name, running) in &mut self.running {
            let Some(result) = running.take_result() else {
                continue;
            };
            match result {
                Ok(()) => {
                    self.told.forget(name);
                    // It came during the start.
                    self.failed.remove(name);
                }
                Err(failure) => {
                    let _netns = info_span!("netns", name).entered();
                    // At the start, the caller tells those of exact names.
                    let of_pattern = *name != running.found.section;
                    let quiet = failure.logged || (self.is_starting && !of_pattern);
                    self.told.error(name, &failure.text, quiet);
                    if self.is_starting && !of_pattern {
                        self.failed.insert(name.clone(), failure);
                    }
                }
            }
        }
    }

    /// Releases namespaces that went, or that are another one now, and forgets processes that ended.
    fn release(&mut self, scan: &Scan) -> bool {
        let mut gone = Vec::new();
        for (name, running) in &self.running {
            let is_same = |found: &&Found| {
                found.name == *name
                    && found.section == running.found.section
                    && found.id.is_none_or(|id| id == running.remote.id)
            };
            let unknown = scan.unlisted.contains(&running.found.section);
            if running.has_ended() {
                gone.push((name.clone(), Some("ended")));
            } else if running.remote.silent() > SILENCE {
                gone.push((name.clone(), Some("hangs, and is replaced")));
            } else if !unknown && !scan.found.iter().any(|found| is_same(&found)) {
                gone.push((name.clone(), None));
            }
        }
        for (name, failed) in &gone {
            let Some(running) = self.running.remove(name) else {
                continue;
            };
            self.sweep = Some(Instant::now() + SWEEP);
            if let Some(failed) = failed {
                self.retries.insert(name.clone(), Instant::now() + RETRY);
                let text = format!("network namespace {name}: its process {failed}");
                if !running.has_told() {
                    self.told.error(name, &text, false);
                }
                continue;
            }
            self.told.forget(name);
            self.retries.remove(name);
            let id = running.remote.id;
            // Under another name, it is taken over as it is.
            let stays = scan.found.iter().any(|found| found.id == Some(id));
            if !stays {
                info!("network namespace {name}: gone: released");
            }
            let task = tokio::spawn(running.remote.stop(!stays));
            self.ending.push(Ending { id, task });
        }
        !gone.is_empty()
    }

    /// Makes processes in namespaces that came.
    fn add(&mut self) -> Result<bool, HelperEnded> {
        let now = Instant::now();
        let (found, running) = (&self.scan.found, &self.running);
        let is_new = |each: &&Found| !running.contains_key(&each.name);
        let is_due = |each: &&Found| self.retries.get(&each.name).is_none_or(|at| *at <= now);
        let is_free = |each: &&Found| !self.ending.iter().any(|it| Some(it.id) == each.id);
        let new = found.iter().filter(is_new).filter(is_due).filter(is_free);
        let starting = running.values().filter(|each| each.is_starting());
        let room = max_starting().saturating_sub(starting.count());
        let new: Vec<_> = new.take(room).cloned().collect();
        let any = !new.is_empty();
        for found in new {
            self.start_process(found)?;
        }
        Ok(any)
    }

    fn start_process(&mut self, found: Found) -> Result<(), HelperEnded> {
        let Some(helper) = &self.helper else {
            return Ok(());
        };
        let started = Remote::start(helper, &found.path, self.listeners.as_ref());
        let name = found.name.clone();
        match started {
            Err(error) => {
                error!("the helper process for network namespaces does not answer: {error}");
                Err(HelperEnded)
            }
            Ok(Err(refusal)) => {
                let (is_gone, text) = (matches!(refusal, Refusal::Gone(_)), refusal.to_string());
                // As in `take_results`.
                let is_first = self.is_starting && !is_gone && name == found.section;
                self.told.error(&name, &text, is_gone || is_first);
                if is_first {
                    let failure = Failure {
                        text,
                        logged: false,
                    };
                    self.failed.insert(name.clone(), failure);
                }
                self.retries.insert(name, Instant::now() + RETRY);
                Ok(())
            }
            Ok(Ok(remote)) => {
                // Where this process could not know.
                let mut others = self.running.values();
                if let Some(other) = others.find(|other| other.remote.id == remote.id) {
                    let other = other.found.name.clone();
                    let error = StartError::SameNamespace { name, other };
                    self.told.error(&found.name, &error.to_string(), false);
                    self.retries.insert(found.name, Instant::now() + RETRY);
                    return Ok(());
                }
                self.retries.remove(&name);
                let answer = remote.configure(self.section(&found));
                let tried = Arc::clone(&self.tried);
                let starting = tokio::spawn(async move {
                    let result = answer.await;
                    tried.notify_one();
                    result
                });
                let running = Running::new(found, remote, starting);
                self.running.insert(name, running);
                Ok(())
            }
        }
    }

    fn section(&self, found: &Found) -> SectionText {
        SectionText {
            text: self.text.clone(),
            section: found.section.clone(),
            name: found.name.clone(),
            scraped: self.scraped,
        }
    }

    /// Removes the pins of namespaces that went, where that is due.
    fn sweep(&mut self) {
        if self.sweep.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.sweep = Some(Instant::now() + SWEEP_AGAIN);
        if let Err(error) = datapath::sweep_ended() {
            error!("cannot remove the pins of network namespaces that are gone: {error}");
        }
    }

    /// Ends all processes; with `detach`, detaches from all interfaces first.
    pub(in crate::service) async fn stop(&mut self, detach: bool) {
        let running = std::mem::take(&mut self.running).into_values();
        join_all(running.map(|running| running.remote.stop(detach))).await;
        join_all(self.ending.drain(..).map(|ending| ending.task)).await;
    }
}

/// Processes that load at the same time.
fn max_starting() -> usize {
    thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MAX_STARTING))
}
