//! Interfaces that come, go, are renamed or lose the program: a controller's stays with them.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{AttachError, Ensured, Namespace, NamespaceError, ensure};
use crate::{
    kernel::link::{self, Interface, Monitor},
    model::{ModeChoice, Settings},
};

/// How often the links of attached interfaces are looked at: nobody tells when one is detached.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure it is tried again after the first of these, then after twice as long each time, and at
/// last every so often.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// An interface that is to be attached whenever there is one of that name.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// How the program is to run, where none does yet.
    pub choice: ModeChoice,
    /// What the program is told.
    pub settings: Settings,
}

/// What became of a wanted interface.
#[derive(Debug)]
pub enum Change {
    /// It is attached, or was and is up to date.
    Attached {
        /// Its name.
        name: String,
        /// What was done.
        ensured: Box<Ensured>,
    },
    /// It could not be attached.
    Failed {
        /// Its name.
        name: String,
        /// Why.
        error: AttachError,
        /// When it is tried again.
        again_in: Duration,
    },
    /// There is none of that name yet. Said once, at the start.
    Missing {
        /// The name.
        name: String,
    },
    /// It is gone, or in another namespace. It is attached again when one of that name comes.
    Vanished {
        /// The name that it had.
        name: String,
    },
    /// It has another name, and stays what it is.
    Renamed {
        /// The name that it had.
        from: String,
        /// The name that it has.
        to: String,
    },
    /// Someone detached our program. It is attached again.
    Lost {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { name, .. } => write!(f, "{name}: attached"),
            Self::Failed {
                error, again_in, ..
            } => write!(f, "{error}; tried again in {} s", again_in.as_secs()),
            Self::Missing { name } => {
                write!(f, "{name}: there is no such interface yet; waiting for it")
            }
            Self::Vanished { name } => {
                write!(f, "{name}: is gone; attached again when it comes back")
            }
            Self::Renamed { from, to } => {
                write!(f, "{from}: is now called {to}, and stays attached")
            }
            Self::Lost { name } => write!(f, "{name}: someone detached tfo; attaching it again"),
        }
    }
}

/// An interface that was there under a wanted name.
struct Known {
    index: u32,
    name: String,
    /// Where in the list of wanted ones it is.
    wanted: usize,
    attached: bool,
    /// When it is tried next, and how long after that it would be again.
    due: Instant,
    pause: Duration,
}

/// Keeps wanted interfaces attached.
pub struct Follower {
    namespace: Namespace,
    wanted: Vec<Wanted>,
    known: Vec<Known>,
    monitor: Monitor,
    /// Interfaces may have changed since they were last listed.
    stale: bool,
    started: bool,
    changes: VecDeque<Change>,
    next_look: Instant,
}

impl Follower {
    /// Begins in the calling thread's namespace, which `namespace` is to be. Nothing is attached before the
    /// first [`Self::next`].
    ///
    /// # Errors
    ///
    /// Where the kernel does not tell of its interfaces.
    pub fn start(namespace: Namespace, wanted: Vec<Wanted>) -> Result<Self, NamespaceError> {
        Ok(Self {
            namespace,
            wanted,
            known: Vec::new(),
            // Before interfaces are first listed, so that none comes in between.
            monitor: Monitor::start()?,
            stale: true,
            started: false,
            changes: VecDeque::new(),
            next_look: Instant::now(),
        })
    }

    /// Other interfaces are wanted from now on, or with other settings. What is no longer wanted stays as it
    /// is, and is not looked after any more.
    pub fn want(&mut self, wanted: Vec<Wanted>) {
        self.wanted = wanted;
        self.known.clear();
        self.started = false;
        self.stale = true;
    }

    /// Attaches what there is to attach, and waits for the next change. It may be dropped while it waits:
    /// nothing is lost.
    ///
    /// # Errors
    ///
    /// Where the kernel does not tell of its interfaces; the next call asks again, a second later.
    pub async fn next(&mut self) -> Result<Change, NamespaceError> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            self.wait().await?;
            let lost = self.look();
            // What was lost may be so because its interface is gone: then that is what is said.
            if self.stale || !lost.is_empty() {
                let present = link::list().await?;
                self.stale = false;
                self.compare(&present);
            }
            self.lose(&lost);
            self.attach_next().await;
        }
    }

    /// Until there is something to do.
    async fn wait(&mut self) -> Result<(), NamespaceError> {
        let due = self.known.iter().filter(|known| !known.attached);
        let due = due.map(|known| known.due).min();
        let until = due.map_or(self.next_look, |due| due.min(self.next_look));
        tokio::select! {
            () = sleep_until(until) => {}
            more = self.monitor.changed() => {
                self.stale = true;
                if !more {
                    // What it did not tell is seen when they are listed.
                    sleep(LOOK).await;
                    self.monitor = Monitor::start()?;
                }
            }
        }
        Ok(())
    }

    /// Notes which interfaces went, came, or have another name.
    fn compare(&mut self, present: &[Interface]) {
        let changes = &mut self.changes;
        self.known.retain_mut(|known| {
            let interface = present.iter().find(|each| each.index == known.index);
            let Some(interface) = interface else {
                let name = known.name.clone();
                changes.push_back(Change::Vanished { name });
                return false;
            };
            if interface.name != known.name {
                let from = std::mem::replace(&mut known.name, interface.name.clone());
                let to = interface.name.clone();
                changes.push_back(Change::Renamed { from, to });
            }
            true
        });
        for (wanted, Wanted { name, .. }) in self.wanted.iter().enumerate() {
            let interface = present.iter().find(|each| each.name == *name);
            match interface {
                Some(interface) if self.known.iter().all(|it| it.index != interface.index) => {
                    self.known.push(Known {
                        index: interface.index,
                        name: name.clone(),
                        wanted,
                        attached: false,
                        due: Instant::now(),
                        pause: RETRY[0],
                    });
                }
                None if !self.started => {
                    let name = name.clone();
                    changes.push_back(Change::Missing { name });
                }
                _ => {}
            }
        }
        self.started = true;
    }

    /// The indexes of interfaces that lost the program, if it is time to look.
    fn look(&mut self) -> Vec<u32> {
        let now = Instant::now();
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + LOOK;
        let attached = self.known.iter().filter(|known| known.attached);
        // Where the kernel does not say, the next look may.
        let lost = attached.filter(|it| matches!(self.namespace.is_attached(it.index), Ok(false)));
        lost.map(|known| known.index).collect()
    }

    /// Notes that these interfaces, as far as they are there, lost the program.
    fn lose(&mut self, lost: &[u32]) {
        for known in &mut self.known {
            if lost.contains(&known.index) {
                known.attached = false;
                known.due = Instant::now();
                let name = known.name.clone();
                self.changes.push_back(Change::Lost { name });
            }
        }
    }

    /// Attaches one interface that is due.
    async fn attach_next(&mut self) {
        let now = Instant::now();
        let due = |known: &&mut Known| !known.attached && known.due <= now;
        let Some(known) = self.known.iter_mut().find(due) else {
            return;
        };
        let wanted = &self.wanted[known.wanted];
        let ensured = ensure(&self.namespace, &known.name, wanted.choice, wanted.settings);
        let name = known.name.clone();
        self.changes.push_back(match ensured.await {
            Ok(ensured) => {
                known.attached = true;
                known.pause = RETRY[0];
                let ensured = Box::new(ensured);
                Change::Attached { name, ensured }
            }
            Err(error) => {
                let again_in = known.pause;
                known.due = Instant::now() + again_in;
                known.pause = RETRY[1].min(again_in * 2);
                // It may be gone.
                self.stale = true;
                Change::Failed {
                    name,
                    error,
                    again_in,
                }
            }
        });
    }
}
