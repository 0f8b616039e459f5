//! What is attached in the calling thread's network namespace, and what it all counted.

use aya::programs::ProgramInfo;
use tfo_common::{
    counters::Counter,
    maps::{COUNTERS, SLOTS_TAKEN},
};

use super::{
    DatapathError, Mirror, Snapshot, info, modes,
    pins::{InterfacePins, Lock, NamespacePins},
    program::map_from_pin,
    value,
};
use crate::{
    kernel::{
        link::{self, LinkError, XdpMode},
        netns::{self, NetnsError},
        netstat::{self, KernelCounters, NetstatError},
        sysctl::SysctlError,
    },
    keys::InstallError,
};

const STATE: &str = "state";

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

/// The mirrored counters beside the kernel's own.
#[derive(Clone, Debug)]
pub struct Drift {
    /// What was counted on all attached interfaces.
    pub ours: Snapshot,
    /// What the kernel counted since interfaces were last attached or detached.
    pub kernel: KernelCounters,
}

impl Drift {
    /// Ours less the kernel's, in the order of [`Counter::MIRRORED`].
    pub fn drift(&self) -> [i64; Counter::MIRRORED.len()] {
        let mut drift = [0; Counter::MIRRORED.len()];
        for (index, counter) in Counter::MIRRORED.into_iter().enumerate() {
            drift[index] = self
                .ours
                .total
                .get(counter)
                .wrapping_sub(self.kernel[index])
                .cast_signed();
        }
        drift
    }
}

/// The calling thread's network namespace, as the data path sees it.
#[derive(Debug)]
pub struct Namespace {
    pins: NamespacePins,
}

impl Namespace {
    /// The calling thread's.
    ///
    /// # Errors
    ///
    /// [`NetnsError`] where the kernel cannot tell namespaces apart.
    pub fn current() -> Result<Self, NetnsError> {
        Ok(Self {
            pins: NamespacePins::new(netns::cookie()?),
        })
    }

    pub(super) const fn pins(&self) -> &NamespacePins {
        &self.pins
    }

    /// Holds off other controllers, if something is attached.
    pub(super) fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        self.pins.exists().then(|| self.pins.lock()).transpose()
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
            let program_id = ProgramInfo::from_pin(pins.program())
                .map_err(DatapathError::from)?
                .id();
            let interface = present.iter().find(|each| each.index == pins.index);
            let mode = interface.and_then(|interface| match interface.xdp {
                Some(xdp) if xdp.program_id == program_id => Some(xdp.mode),
                _ => modes::has_tc(&interface.name, program_id).then_some(XdpMode::Tc),
            });
            attached.push(AttachedInterface {
                index: pins.index,
                name: interface.map(|interface| interface.name.clone()),
                program_id,
                mode,
                mirror: info::read(&pins.info())?.mirror,
            });
        }
        Ok(attached)
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
        let mut kernel = netstat::read()?;
        for (value, base) in kernel.iter_mut().zip(self.state()?.baseline) {
            *value = value.wrapping_sub(base);
        }
        Ok(Drift { ours, kernel })
    }

    /// Has our counters and the kernel's agree from now on: an interface came or went, and with it
    /// counts.
    pub(super) fn rebase(&self) -> Result<(), NamespaceError> {
        let ours = self.counters()?.total;
        let mut state = self.state().unwrap_or_default();
        state.baseline = netstat::read()?;
        for (base, counter) in state.baseline.iter_mut().zip(Counter::MIRRORED) {
            *base = base.wrapping_sub(ours.get(counter));
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

fn counters_at(pins: &InterfacePins) -> Result<Snapshot, DatapathError> {
    Snapshot::read(
        &map_from_pin(&pins.map(COUNTERS), COUNTERS)?,
        &map_from_pin(&pins.map(SLOTS_TAKEN), SLOTS_TAKEN)?,
    )
}
