//! The object, loaded into the kernel.

use std::{borrow::Cow, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{SchedClassifier, Xdp},
};
use tfo_common::{
    abi::{
        ASSIGN_PATCHED, BARE_PACKETS, COUNTERS, DECAP, DEVICE, EVENT_BUDGET, EVENT_GATE, EVENTS,
        KEYS, OF_INTERFACE, OF_NAMESPACE, OWN_COOKIES, SIZES, SLOTS_TAKEN, SOCKET_OFFSETS,
        SOURCE_MASK, SOURCES, SWITCHES, XDP_PROGRAM, sizes::Sizes,
    },
    fastopen::{KeySet, own::OwnCookies},
    wire::Link,
};

use super::{constants::Constants, image::OBJECT, kfunc, programs};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{
            EventFilter, EventStream, GuardStore, KeyStore, OwnCookieStore, PolicyStore, Snapshot,
            Sources, SwitchStore, read_sizes,
        },
        pins::{InterfacePins, NamespacePins},
    },
    model::{AttachMode, Guard, Mirror, Policy, Settings},
};

/// Pins that the loader takes maps from, and creates the missing ones at.
#[derive(Clone, Copy)]
struct PinnedMaps<'a> {
    namespace: &'a NamespacePins,
    interface: &'a InterfacePins,
    /// Mode and pin of the program array of tail calls; `None` for an array that is not pinned yet.
    tail_calls: Option<(AttachMode, &'a Path)>,
}

/// The programs and maps in the kernel, not attached. Accepts no cookie until it is given keys.
pub struct Datapath {
    ebpf: Ebpf,
    keys: KeyStore,
    policies: PolicyStore,
    /// Opened by the first [`Self::set_guard`].
    guards: Option<GuardStore>,
    /// Opened by the first [`Self::set_own_cookies`].
    own_cookies: Option<OwnCookieStore>,
    settings: Settings,
    not_exact: Option<String>,
}

impl Datapath {
    /// Loads the XDP programs with maps of their own, unpinned.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses them.
    pub fn load(settings: impl Into<Settings>) -> Result<Self, DatapathError> {
        let mut datapath = Self::load_with(settings.into(), Link::Ethernet, None, false)?;
        datapath.xdp_mut()?;
        Ok(datapath)
    }

    /// As [`Self::load`], with the guard's programs; the guard is off until [`Self::set_guard`].
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses them; [`DatapathError::NoKfunc`] before Linux 6.9.
    pub fn load_guarding(settings: impl Into<Settings>) -> Result<Self, DatapathError> {
        let mut datapath = Self::load_with(settings.into(), Link::Ethernet, None, true)?;
        datapath.ack_mut()?;
        for mode in [AttachMode::Native, AttachMode::Tc] {
            datapath.load_for(mode)?;
            datapath.load_guard(mode)?;
            datapath.load_edge(mode)?;
        }
        Ok(datapath)
    }

    /// As [`Self::load`], with the programs for own cookies; there are none until [`Self::set_own_cookies`].
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses them.
    pub fn load_translating(settings: impl Into<Settings>) -> Result<Self, DatapathError> {
        let mut datapath = Self::load_with(settings.into(), Link::Ethernet, None, false)?;
        datapath.egress_mut()?;
        for mode in [AttachMode::Native, AttachMode::Tc] {
            datapath.load_for(mode)?;
            datapath.load_translate(mode)?;
        }
        Ok(datapath)
    }

    /// Loads the object onto pinned maps; creates and pins those that do not exist. Programs are loaded when
    /// they are first asked for.
    pub(crate) fn load_pinned(
        settings: Settings,
        link: Link,
        namespace: &NamespacePins,
        interface: &InterfacePins,
    ) -> Result<Self, DatapathError> {
        let pinned = PinnedMaps {
            namespace,
            interface,
            tail_calls: None,
        };
        Self::load_with(settings, link, Some(pinned), false)
    }

    /// As [`Self::load_pinned`], for programs that join attached ones; `tail_calls` is the mode of those, and the pin of their
    /// program array. `guard`: the guard's programs are among them.
    pub(crate) fn load_beside(
        settings: Settings,
        link: Link,
        (namespace, interface): (&NamespacePins, &InterfacePins),
        tail_calls: (AttachMode, &Path),
        guard: bool,
    ) -> Result<Self, DatapathError> {
        let pinned = PinnedMaps {
            namespace,
            interface,
            tail_calls: Some(tail_calls),
        };
        Self::load_with(settings, link, Some(pinned), guard)
    }

    fn load_with(
        settings: Settings,
        link: Link,
        pinned: Option<PinnedMaps<'_>>,
        guarded: bool,
    ) -> Result<Self, DatapathError> {
        let mut object: Cow<'_, [u8]> = OBJECT.into();
        if guarded {
            object = kfunc::patch_assign(&object)?.into();
        }
        let casts = kfunc::patch_casts(&object)?;
        let namespace = pinned.map_or(0, |pins| pins.namespace.cookie());
        let constants = Constants::new(settings, namespace, casts.is_some());
        if let Some(casts) = casts {
            object = casts.into();
        }
        let mut loader = EbpfLoader::new();
        if let Some(pins) = pinned {
            for name in OF_NAMESPACE {
                loader.map_pin_path(name, pins.namespace.map(name));
            }
            for name in OF_INTERFACE {
                loader.map_pin_path(name, pins.interface.map(name));
            }
            if let Some((mode, path)) = pins.tail_calls {
                loader.map_pin_path(programs::tail_calls(mode), path);
            }
        }
        // A map has at least one entry, even if it is never used.
        loader.map_max_entries(SOURCES, settings.sources.max.max(1));
        let mut ebpf = loader
            .override_global(SOCKET_OFFSETS, &constants.offsets, true)
            .override_global(DECAP, &constants.decap, true)
            .override_global(DEVICE, &constants.device, true)
            .override_global(SOURCE_MASK, &constants.sources, true)
            .override_global(BARE_PACKETS, &u32::from(link == Link::None), true)
            .override_global(ASSIGN_PATCHED, &u32::from(guarded), true)
            .load(&object)
            .map_err(|error| DatapathError::Load(Box::new(error)))?;
        let map = ebpf.take_map(KEYS).ok_or(DatapathError::Missing(KEYS))?;
        let policies = PolicyStore::take(&mut ebpf)?;
        Ok(Self {
            ebpf,
            policies,
            guards: None,
            own_cookies: None,
            keys: KeyStore::new(map, pinned.map(|pins| pins.namespace))?,
            settings: constants.settings,
            not_exact: constants.not_exact,
        })
    }

    /// The mirror in effect.
    pub const fn mirror(&self) -> Mirror {
        self.settings.mirror
    }

    /// The settings in effect: [`Mirror::Packet`] where [`Mirror::Exact`] was not possible.
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Why the mirror is not exact, where it was to be.
    pub fn not_exact(&self) -> Option<&str> {
        self.not_exact.as_deref()
    }

    /// The XDP entry program.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Missing`] where the object has none.
    pub fn program(&self) -> Result<&Xdp, DatapathError> {
        let program = self.ebpf.program(XDP_PROGRAM);
        let program = program.ok_or(DatapathError::Missing(XDP_PROGRAM))?;
        Ok(program.try_into()?)
    }

    /// The TC program of this name.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Missing`] where the object has none.
    pub fn classifier(&self, name: &'static str) -> Result<&SchedClassifier, DatapathError> {
        let program = self.ebpf.program(name);
        Ok(program.ok_or(DatapathError::Missing(name))?.try_into()?)
    }

    /// The XDP entry program, loaded.
    pub(crate) fn xdp_mut(&mut self) -> Result<&mut Xdp, DatapathError> {
        programs::load_xdp(&mut self.ebpf)
    }

    /// The TC entry program, loaded.
    pub(crate) fn classifier_mut(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        programs::load_tc(&mut self.ebpf)
    }

    /// The TC program that takes the answers to challenges, which it loads.
    pub(crate) fn ack_mut(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        programs::load_ack(&mut self.ebpf)
    }

    /// Loads the guard's programs of `mode`; the entry program tail-calls them from now on.
    pub(crate) fn load_guard(&mut self, mode: AttachMode) -> Result<(), DatapathError> {
        programs::load_guard(&mut self.ebpf, mode)
    }

    /// Loads the programs of `mode` that guard hosts behind this one; the entry program tail-calls them from now on.
    pub(crate) fn load_edge(&mut self, mode: AttachMode) -> Result<(), DatapathError> {
        programs::load_edge(&mut self.ebpf, mode)
    }

    /// The TC program that issues own cookies, which it loads.
    pub(crate) fn egress_mut(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        programs::load_egress(&mut self.ebpf)
    }

    /// Loads the program of `mode` that translates own cookies; the entry program tail-calls it from now on.
    pub(crate) fn load_translate(&mut self, mode: AttachMode) -> Result<(), DatapathError> {
        programs::load_translate(&mut self.ebpf, mode)
    }

    /// Loads the programs of `mode`, unless they are loaded.
    pub(crate) fn load_for(&mut self, mode: AttachMode) -> Result<(), DatapathError> {
        match mode {
            AttachMode::Tc => self.classifier_mut().map(drop),
            _ => self.xdp_mut().map(drop),
        }
    }

    /// Pins the program array of tail calls: the kernel empties one that no process holds and no pin.
    pub(crate) fn pin_tail_calls(
        &self,
        mode: AttachMode,
        path: &Path,
    ) -> Result<(), DatapathError> {
        let map = self.map(programs::tail_calls(mode))?;
        map.pin(path).map_err(DatapathError::pin(path))
    }

    /// Puts a key set in force as a whole.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_keys(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        self.keys.set(keys)
    }

    /// Puts a policy, or none, in force as a whole.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_policy(&mut self, policy: Option<&Policy>) -> Result<(), DatapathError> {
        self.policies.set(policy)
    }

    /// Puts own cookies, or none, in force, where maps are not pinned.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_own_cookies(&mut self, cookies: Option<&OwnCookies>) -> Result<(), DatapathError> {
        let mut store = if let Some(store) = self.own_cookies.take() {
            store
        } else {
            let switches = SwitchStore::of(self.map(SWITCHES)?)?;
            let map = self.ebpf.take_map(OWN_COOKIES);
            OwnCookieStore::new(
                switches,
                map.ok_or(DatapathError::Missing(OWN_COOKIES))?,
                None,
            )?
        };
        let set = store.set(cookies);
        self.own_cookies = Some(store);
        set
    }

    /// Puts a guard, or none, in force, where maps are not pinned.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_guard(&mut self, guard: Option<&Guard>) -> Result<(), DatapathError> {
        let mut store = match self.guards.take() {
            Some(store) => store,
            None => GuardStore::take(&mut self.ebpf)?,
        };
        let set = store.set(guard);
        self.guards = Some(store);
        set
    }

    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn counters(&self) -> Result<Snapshot, DatapathError> {
        Snapshot::read(self.map(COUNTERS)?, self.map(SLOTS_TAKEN)?)
    }

    /// Reads the histogram of SYN data sizes.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DatapathError> {
        read_sizes(self.map(SIZES)?)
    }

    /// Reads the counts by source prefix.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sources(&self) -> Result<Sources, DatapathError> {
        let mut sources = Sources::default();
        sources.add(self.map(SOURCES)?, self.settings.sources)?;
        Ok(sources)
    }

    /// Takes the event stream. The second call fails.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it was taken, or a map cannot be read.
    pub fn take_events(&mut self, filter: EventFilter) -> Result<EventStream, DatapathError> {
        let mut take = |name| self.ebpf.take_map(name).ok_or(DatapathError::Missing(name));
        let maps = [take(EVENTS)?, take(EVENT_GATE)?, take(EVENT_BUDGET)?];
        EventStream::new(maps, filter, 1, None)
    }

    pub(crate) const fn keys_mut(&mut self) -> &mut KeyStore {
        &mut self.keys
    }

    fn map(&self, name: &'static str) -> Result<&Map, DatapathError> {
        self.ebpf.map(name).ok_or(DatapathError::Missing(name))
    }

    /// Forwards the program's log lines to this process's log, for as long as the runtime lives.
    #[cfg(feature = "trace")]
    pub(crate) fn forward_log(&mut self) -> std::io::Result<()> {
        use tokio::io::{Interest, unix::AsyncFd};

        let logger = aya_log::EbpfLogger::init(&mut self.ebpf).map_err(std::io::Error::other)?;
        // SAFETY: the logger owns its map's descriptor, and is dropped only with the `AsyncFd`.
        let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE)? };
        tokio::spawn(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        });
        Ok(())
    }
}
