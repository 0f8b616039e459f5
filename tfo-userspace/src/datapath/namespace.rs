//! What is attached in the calling thread's network namespace, and what it all counted.

use std::{fs, path::Path, time::Duration};

use tfo_common::{
    counters::Counter,
    maps::{COUNTERS, SLOTS_TAKEN},
};

use super::{
    Build, DatapathError, Drift, Mirror, Snapshot, build, info,
    lock::Lock,
    pins::{InterfacePins, NamespacePins, OtherLayout},
    program::map_from_pin,
    value,
};
use crate::{
    kernel::{
        bpf::LinkState,
        clock,
        link::{self, Interface, LinkError, XdpMode},
        netns::{self, NetnsError},
        netstat::{self, KernelCounters, NetstatError},
        sysctl::SysctlError,
    },
    keys::InstallError,
};

const STATE: &str = "state";
/// How often both sides are read in search of a moment at which nothing changes.
const REBASE_TRIES: u32 = 20;

/// Why the state of a namespace could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The namespace itself.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The data path.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The kernel's counters.
    #[error(transparent)]
    Netstat(#[from] NetstatError),
    /// Its interfaces.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] InstallError<DatapathError>),
    /// The kernel's keys.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Nothing is attached.
    #[error(
        "nothing is attached here: `tfo attach IFACE` first (and --netns NAME for another network namespace)"
    )]
    NothingAttached,
    /// Someone else reads the events.
    #[error(
        "another `tfo events` is reading here, and each event goes to one reader: end it first"
    )]
    EventsTaken,
}

/// What has to be remembered of a namespace between two runs of the controller.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct State {
    /// What the kernel had counted when our counters stood at 0.
    baseline: KernelCounters,
    /// When the keys last changed, in seconds since 1970; 0 where that is not known.
    pub(super) keys_since: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a state.
unsafe impl aya::Pod for State {}

/// An interface that has pins.
#[derive(Clone, Debug)]
pub struct AttachedInterface {
    /// Its index.
    pub index: u32,
    /// Its name, unless it is gone.
    pub name: Option<String>,
    /// Our program's id.
    pub program_id: u32,
    /// How the program runs; `None` where it is no longer attached.
    pub mode: Option<XdpMode>,
    /// How closely it follows the kernel.
    pub mirror: Mirror,
    /// The build that attached it; `None` where that was one that did not say so.
    pub build: Option<Build>,
    /// How long ago it was attached; an upgrade in place does not change it.
    pub attached: Option<Duration>,
}

impl AttachedInterface {
    /// Its name, or what to call it when it is gone.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("interface {} (gone)", self.index),
        }
    }
}

/// The calling thread's network namespace, as the data path sees it.
#[derive(Clone, Debug)]
pub struct Namespace {
    cookie: u64,
    pins: NamespacePins,
}

impl Namespace {
    /// The calling thread's.
    ///
    /// # Errors
    ///
    /// [`NetnsError`] where the kernel cannot tell namespaces apart.
    pub fn current() -> Result<Self, NetnsError> {
        let cookie = netns::cookie()?;
        Ok(Self {
            cookie,
            pins: NamespacePins::new(cookie),
        })
    }

    /// What tells it from others.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    pub(super) const fn pins(&self) -> &NamespacePins {
        &self.pins
    }

    /// Holds off other controllers, if something is attached.
    pub(super) fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        self.pins.lock()
    }

    /// The interfaces that have pins, attached or not any more.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where pins or interfaces cannot be read.
    pub async fn interfaces(&self) -> Result<Vec<AttachedInterface>, NamespaceError> {
        let present = link::list().await?;
        let mut attached = Vec::new();
        for pins in self.pins.interfaces()? {
            let link = pins.link_state()?;
            let interface = present.iter().find(|each| each.index == pins.index);
            let mode = link
                .zip(interface)
                .and_then(|(link, interface)| runs(link, interface));
            attached.push(AttachedInterface {
                index: pins.index,
                name: interface.map(|interface| interface.name.clone()),
                program_id: link.map_or(0, |link| link.program_id),
                mode,
                mirror: info::read(&pins.info())?.mirror,
                build: build::read(&pins.build())?,
                attached: age_of_pin(&pins.info()),
            });
        }
        Ok(attached)
    }

    /// Whether the interface of that index has our program, as its pinned link says.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel does not say.
    pub fn is_attached(&self, index: u32) -> Result<bool, DatapathError> {
        let link = self.pins.interface(index).link_state()?;
        Ok(link.is_some_and(|link| link.index == index))
    }

    /// What other layout versions attached here: the version's name, and the interface's index.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where pins cannot be listed.
    pub fn other_layouts(&self) -> Result<Vec<(String, u32)>, DatapathError> {
        let others = OtherLayout::all(self.cookie)?;
        let named = others.into_iter();
        Ok(named
            .map(|other| (other.version, other.pins.index))
            .collect())
    }

    /// What one interface counted.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where its maps cannot be read.
    pub fn counters_of(&self, index: u32) -> Result<Snapshot, DatapathError> {
        counters_at(&self.pins.interface(index))
    }

    /// What all attached interfaces counted.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn counters(&self) -> Result<Snapshot, DatapathError> {
        let mut sum = Snapshot::default();
        for pins in self.pins.interfaces()? {
            sum += counters_at(&pins)?;
        }
        Ok(sum)
    }

    /// What all attached interfaces counted, beside what the kernel did.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where a counter cannot be read.
    pub fn drift(&self) -> Result<Drift, NamespaceError> {
        if self.pins.interfaces()?.is_empty() {
            return Err(NamespaceError::NothingAttached);
        }
        let ours = self.counters()?;
        Ok(self.compare(ours, netstat::read()?)?)
    }

    /// `ours` beside `kernel`, both as they were read just now: `ours` first, as a SYN is counted here
    /// before the kernel counts it.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it is not known what the kernel had counted before ours began.
    pub fn compare(
        &self,
        ours: Snapshot,
        mut kernel: KernelCounters,
    ) -> Result<Drift, DatapathError> {
        for (value, base) in kernel.iter_mut().zip(self.state()?.baseline) {
            *value = value.wrapping_sub(base);
        }
        Ok(Drift { ours, kernel })
    }

    /// Has our counters and the kernel's agree from now on: an interface came or went, and with it
    /// counts.
    pub(super) fn rebase(&self) -> Result<(), NamespaceError> {
        self.rebase_with(|| Ok(Snapshot::default()))
    }

    /// As [`Self::rebase`], where an interface that is being attached has the counts that `more` reads.
    pub(super) fn rebase_with(
        &self,
        more: impl Fn() -> Result<Snapshot, DatapathError>,
    ) -> Result<(), NamespaceError> {
        let mut kernel = netstat::read()?;
        let mut ours = self.counters()?;
        ours += more()?;
        // Both at one moment: SYNs may be coming in already.
        for _ in 0..REBASE_TRIES {
            let now = netstat::read()?;
            if now == kernel {
                break;
            }
            kernel = now;
            ours = self.counters()?;
            ours += more()?;
        }
        let mut state = self.state().unwrap_or_default();
        state.baseline = kernel;
        for (base, counter) in state.baseline.iter_mut().zip(Counter::MIRRORED) {
            *base = base.wrapping_sub(ours.total.get(counter));
        }
        Ok(self.set_state(state)?)
    }

    pub(super) fn state(&self) -> Result<State, DatapathError> {
        value::read(&self.pins.state(), STATE)
    }

    pub(super) fn set_state(&self, state: State) -> Result<(), DatapathError> {
        value::write(&self.pins.state(), STATE, state)
    }
}

/// How long ago a pin was made.
fn age_of_pin(path: &Path) -> Option<Duration> {
    let made = fs::metadata(path).ok()?.modified().ok()?;
    let age = made.elapsed().unwrap_or_default();
    // No pin is older than the system, whatever was done to the clock.
    Some(age.min(clock::since_boot()))
}

/// How the program of a link runs on an interface; `None` where it does not.
pub(super) fn runs(link: LinkState, interface: &Interface) -> Option<XdpMode> {
    if link.index != interface.index {
        return None;
    }
    if link.tcx {
        return Some(XdpMode::Tc);
    }
    interface.xdp.map(|xdp| xdp.mode)
}

fn counters_at(pins: &InterfacePins) -> Result<Snapshot, DatapathError> {
    Snapshot::read(
        &map_from_pin(&pins.map(COUNTERS), COUNTERS)?,
        &map_from_pin(&pins.map(SLOTS_TAKEN), SLOTS_TAKEN)?,
    )
}
