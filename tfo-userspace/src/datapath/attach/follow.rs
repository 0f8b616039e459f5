//! Keeps wanted interfaces attached while interfaces come, go, are renamed or lose the program.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{ensure::ensure_indexed, error::AttachError, moved::detach_departed, outcome::Ensured};
use crate::{
    datapath::namespace::{Namespace, NamespaceError},
    kernel::link::{self, Interface, Monitor},
    model::{ModeChoice, Settings},
};

/// Time between two looks at the links of attached interfaces: the kernel does not notify of a detached link.
const LOOK: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failure; each is twice the one before.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// An interface to attach whenever one of this name exists.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The interface's name.
    pub name: String,
    /// The mode; `None` to leave that of an interface that is attached already.
    pub choice: Option<ModeChoice>,
    /// The settings.
    pub settings: Settings,
}

/// A change of a wanted interface.
#[derive(Debug)]
pub enum Change {
    /// Attached, upgraded, or found up to date.
    Attached {
        /// The interface's name.
        name: String,
        /// The result.
        ensured: Box<Ensured>,
    },
    /// Not attached.
    Failed {
        /// The interface's name.
        name: String,
        /// The cause.
        error: AttachError,
        /// Time until the next try.
        again_in: Duration,
    },
    /// No interface of this name exists yet. Reported once, at the start.
    Missing {
        /// The name.
        name: String,
    },
    /// Gone. Attached again when one of this name comes.
    Vanished {
        /// The name.
        name: String,
    },
    /// Moved to another network namespace, and detached there. Attached again when one of this name comes.
    Moved {
        /// The name that it had here.
        name: String,
    },
    /// Renamed; stays attached.
    Renamed {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// Another process detached the program. Attached again.
    Lost {
        /// The interface's name.
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
                write!(f, "{name}: no such interface yet; attached once it exists")
            }
            Self::Vanished { name } => {
                write!(f, "{name}: gone; attached again when it comes back")
            }
            Self::Moved { name } => {
                write!(
                    f,
                    "{name}: moved to another network namespace, and detached there; attached again when it comes back"
                )
            }
            Self::Renamed { from, to } => {
                write!(f, "{from}: renamed to {to}; stays attached")
            }
            Self::Lost { name } => {
                write!(f, "{name}: another process detached tfo; attaching again")
            }
        }
    }
}

/// An interface that was found under a wanted name.
struct Known {
    index: u32,
    name: String,
    /// Index into the list of wanted interfaces.
    wanted: usize,
    attached: bool,
    /// Time of the next try, and the pause after it.
    due: Instant,
    pause: Duration,
}

/// Keeps wanted interfaces attached.
pub struct Follower {
    namespace: Namespace,
    wanted: Vec<Wanted>,
    known: Vec<Known>,
    monitor: Monitor,
    /// Interfaces may have changed since the last list.
    stale: bool,
    started: bool,
    changes: VecDeque<Change>,
    next_look: Instant,
}

impl Follower {
    /// Begins in the calling thread's namespace, which `namespace` must be. Attaches nothing before the first
    /// [`Self::advance`].
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Link`] where rtnetlink cannot be used.
    pub fn start(namespace: Namespace, wanted: Vec<Wanted>) -> Result<Self, NamespaceError> {
        Ok(Self {
            namespace,
            wanted,
            known: Vec::new(),
            // Before the first list, so that none is missed.
            monitor: Monitor::start()?,
            stale: true,
            started: false,
            changes: VecDeque::new(),
            next_look: Instant::now(),
        })
    }

    /// Replaces the wanted interfaces. One that is no longer wanted stays as it is.
    pub fn want(&mut self, wanted: Vec<Wanted>) {
        self.wanted = wanted;
        self.known.clear();
        self.started = false;
        self.stale = true;
    }

    /// Waits until [`Self::advance`] has something to do. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Link`] where rtnetlink cannot be used.
    pub async fn ready(&mut self) -> Result<(), NamespaceError> {
        if self.changes.is_empty() {
            self.wait().await?;
        }
        Ok(())
    }

    /// Attaches and detaches what is due. Gives the next change; `None` where there is none. Not cancel safe: what was
    /// detached would go unsaid.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Link`] where interfaces cannot be listed; the next call tries again.
    pub async fn advance(&mut self) -> Result<Option<Change>, NamespaceError> {
        if let Some(change) = self.changes.pop_front() {
            return Ok(Some(change));
        }
        let lost = self.look();
        // A lost program may be due to a vanished interface, which is then what is reported.
        if self.stale || !lost.is_empty() {
            // First: one that leaves in between is stale again.
            let moved = detach_departed(&self.namespace).await?;
            let present = link::list().await?;
            self.stale = false;
            // After the list: whoever has the index of one that went is in it.
            let mut gone = self.monitor.take_gone();
            gone.retain(|index| !matches!(self.namespace.is_attached(*index), Ok(true)));
            self.compare(&present, &moved, &gone);
        }
        self.lose(&lost);
        self.attach_next().await;
        Ok(self.changes.pop_front())
    }

    /// Waits until a look, a try or a change is due.
    async fn wait(&mut self) -> Result<(), NamespaceError> {
        let due = self.known.iter().filter(|known| !known.attached);
        let due = due.map(|known| known.due).min();
        let until = due.map_or(self.next_look, |due| due.min(self.next_look));
        tokio::select! {
            () = sleep_until(until) => {}
            more = self.monitor.changed() => {
                self.stale = true;
                if !more {
                    // The list shows what the monitor missed.
                    sleep(LOOK).await;
                    self.monitor = Monitor::start()?;
                }
            }
        }
        Ok(())
    }

    /// Records which interfaces went, came or were renamed. `moved` are the indexes of those that left for another
    /// namespace, `gone` those of others that are not there any more; other interfaces may have these now.
    fn compare(&mut self, present: &[Interface], moved: &[u32], gone: &[u32]) {
        let changes = &mut self.changes;
        for index in moved {
            let known = self.known.iter().find(|known| known.index == *index);
            let name = known.map_or(format!("interface {index}"), |known| known.name.clone());
            changes.push_back(Change::Moved { name });
        }
        self.known.retain_mut(|known| {
            if moved.contains(&known.index) {
                return false;
            }
            let interface = present
                .iter()
                .find(|each| each.index == known.index && !gone.contains(&each.index));
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

    /// The indexes of interfaces that lost the program; empty where no look is due.
    fn look(&mut self) -> Vec<u32> {
        let now = Instant::now();
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + LOOK;
        let attached = self.known.iter().filter(|known| known.attached);
        // Where the kernel does not tell, the next look may.
        let lost = attached.filter(|it| matches!(self.namespace.is_attached(it.index), Ok(false)));
        lost.map(|known| known.index).collect()
    }

    /// Records that these interfaces, where they exist, lost the program.
    fn lose(&mut self, lost: &[u32]) {
        for known in &mut self.known {
            // Not one that just came with the index of an interface that is gone.
            if known.attached && lost.contains(&known.index) {
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
        let ensured = ensure_indexed(&self.namespace, &known.name, wanted.choice, wanted.settings);
        let name = known.name.clone();
        let change = match ensured.await {
            Ok((index, ensured)) => {
                if index != known.index {
                    // Another interface got the name since the list.
                    known.index = index;
                    let name = name.clone();
                    self.changes.push_back(Change::Vanished { name });
                }
                known.attached = true;
                known.pause = RETRY[0];
                let ensured = Box::new(ensured);
                Change::Attached { name, ensured }
            }
            Err(error) => {
                let again_in = known.pause;
                known.due = Instant::now() + again_in;
                known.pause = RETRY[1].min(again_in * 2);
                // The interface may be gone.
                self.stale = true;
                Change::Failed {
                    name,
                    error,
                    again_in,
                }
            }
        };
        self.changes.push_back(change);
    }
}
