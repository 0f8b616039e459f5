//! What is attached in the calling thread's network namespace, and what it all counted.

use std::time::Duration;

use aya::programs::ProgramInfo;
use tfo_common::{
    cookie::{Key, KeySet},
    counters::Counter,
    maps::{COUNTERS, SLOTS_TAKEN},
};

use super::{
    DatapathError, KeyStore, Mirror, Snapshot, info, modes,
    pins::{InterfacePins, Lock, NamespacePins},
    program::map_from_pin,
    value,
};
use crate::{
    kernel::{
        clock,
        link::{self, LinkError, XdpMode},
        netns::{self, NetnsError},
        netstat::{self, KernelCounters, NetstatError},
        sysctl::{self, SysctlError},
    },
    keys::{self, InstallError, KeyPair, Sysctl},
};

const STATE: &str = "state";
const PRIMARY_SINCE: &str = "primary_since";

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
struct State {
    /// What the kernel had counted when our counters stood at 0.
    baseline: KernelCounters,
    /// When the keys last changed, in seconds since 1970; 0 where that is not known.
    keys_since: u64,
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
    fn lock(&self) -> Result<Option<Lock>, DatapathError> {
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

    /// The data path's keys; `None` where nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be opened.
    pub fn keys(&self) -> Result<Option<KeyStore>, DatapathError> {
        let path = self.pins.keys();
        path.exists()
            .then(|| {
                let map = map_from_pin(&path, tfo_common::maps::KEYS)?;
                KeyStore::new(map, Some(&path))
            })
            .transpose()
    }

    /// How long ago the keys last changed, as far as we know.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the state cannot be read.
    pub fn keys_age(&self) -> Result<Option<Duration>, DatapathError> {
        if let Some(since) = self.primary_since()? {
            return Ok(Some(clock::since_boot().saturating_sub(since)));
        }
        if !self.pins.state().exists() {
            return Ok(None);
        }
        let since = Duration::from_secs(self.state()?.keys_since);
        let age = clock::since_1970().saturating_sub(since);
        // Nothing that is pinned is older than the system.
        Ok((!since.is_zero()).then_some(age.min(clock::since_boot())))
    }

    /// When the primary key changed, since the system was started; `None` where that is not known.
    fn primary_since(&self) -> Result<Option<Duration>, DatapathError> {
        let path = self.pins.primary_since();
        let since = match path.exists() {
            true => value::read(&path, PRIMARY_SINCE)?,
            false => 0,
        };
        Ok((since != 0).then(|| Duration::from_nanos(since)))
    }

    /// A random key becomes primary, in the data path and in the kernel.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn rotate_keys(&self) -> Result<KeyPair, NamespaceError> {
        self.change_keys(keys::rotate)
    }

    /// These keys replace all others, in the data path and in the kernel.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn set_keys(&self, pair: &KeyPair) -> Result<(), NamespaceError> {
        self.change_keys(|store, kernel| keys::install(pair, None, store, kernel))
    }

    /// The kernel's keys become the data path's. Where the kernel has none, both get a random one.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn import_keys(&self) -> Result<KeyPair, NamespaceError> {
        self.change_keys(keys::import)
    }

    fn change_keys<T>(
        &self,
        change: impl FnOnce(&mut KeyStore, &mut Sysctl) -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let _lock = self.lock()?;
        let mut store = self.keys()?.ok_or(NamespaceError::NothingAttached)?;
        self.noting_change(|| change(&mut store, &mut Sysctl))
    }

    /// As [`Namespace::set_keys`], for who looks after the keys: the data path accepts `staged`, too, and
    /// where nothing is attached the kernel's keys change alone.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn install_keys(&self, pair: &KeyPair, staged: Option<Key>) -> Result<(), NamespaceError> {
        let _lock = self.lock()?;
        let mut store = self.keys()?;
        let mut install = || keys::install(pair, staged, &mut store, &mut Sysctl);
        if sysctl::key()?.is_some_and(|old| old.primary == pair.primary) || !self.pins.exists() {
            return Ok(install()?);
        }
        self.noting_change(install)
    }

    /// The kernel's keys and those that the data path accepts, at one moment between two changes.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where either cannot be read.
    pub fn both_keys(&self) -> Result<(Option<KeyPair>, Option<KeySet>), NamespaceError> {
        let _lock = self.lock()?;
        let accepted = self.keys()?.map(|store| store.get()).transpose()?;
        Ok((sysctl::key()?, accepted))
    }

    /// The keys of the kernel, which a data path that is about to be attached accepts when this returns.
    /// Where it accepts them already, it goes on accepting the one that is staged, too.
    pub(super) fn take_kernel_keys(&self, store: &mut KeyStore) -> Result<KeyPair, NamespaceError> {
        let accepted = store.get()?;
        if let Some(pair) = sysctl::key()?
            && accepted.keys().starts_with(pair.to_set().keys())
        {
            return Ok(pair);
        }
        self.noting_change(|| keys::import(store, &mut Sysctl))
    }

    /// Remembers that the keys change now. It does so before they change: whoever is killed in between
    /// leaves keys that seem younger than they are, and stay in force for longer, not for less.
    fn noting_change<T>(
        &self,
        change: impl FnOnce() -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let before = (self.state().unwrap_or_default(), self.primary_since()?);
        self.note_change(
            State {
                keys_since: clock::since_1970().as_secs(),
                ..before.0
            },
            Some(clock::since_boot()),
        )?;
        match change() {
            Ok(changed) => Ok(changed),
            Err(error) => {
                // The error that counts is the first one.
                let _ = self.note_change(before.0, before.1);
                Err(error.into())
            }
        }
    }

    fn note_change(&self, state: State, since: Option<Duration>) -> Result<(), DatapathError> {
        let since = since.unwrap_or_default().as_nanos() as u64;
        value::write(&self.pins.primary_since(), PRIMARY_SINCE, since)?;
        self.set_state(state)
    }

    fn state(&self) -> Result<State, DatapathError> {
        value::read(&self.pins.state(), STATE)
    }

    fn set_state(&self, state: State) -> Result<(), DatapathError> {
        value::write(&self.pins.state(), STATE, state)
    }
}

fn counters_at(pins: &InterfacePins) -> Result<Snapshot, DatapathError> {
    Snapshot::read(
        &map_from_pin(&pins.map(COUNTERS), COUNTERS)?,
        &map_from_pin(&pins.map(SLOTS_TAKEN), SLOTS_TAKEN)?,
    )
}
