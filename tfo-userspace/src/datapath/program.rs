//! The object that the build made, loaded into the kernel.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData, ProgramArray},
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use tfo_common::{
    cookie::KeySet,
    maps::{
        BARE_PACKETS, COUNTERS, EVENT_BUDGET, EVENT_GATE, EVENTS, GUARD_PROVES, KEYS, OF_INTERFACE,
        OF_NAMESPACE, POLICY_STAGE, SIZES, SLOTS_TAKEN, SOCKET_OFFSETS, SOURCE_SETTINGS, SOURCES,
        SocketOffsets, TC_GUARD, TC_POLICY, TC_PROGRAM, XDP_POLICY, XDP_PROGRAM,
    },
    sizes::Sizes,
    wire::Link,
};

use super::{
    DatapathError, EventFilter, EventStream, GuardStore, KeyStore, PolicyStore, Snapshot, Sources,
    counters::read_sizes,
    guard,
    pins::{InterfacePins, NamespacePins},
};
use crate::{
    kernel::types::KernelTypes,
    model::{AttachMode, Guard, Mirror, Policy, Settings},
};

/// The eBPF object.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tfo-ebpf"));

/// Whether there is to be a guard.
#[derive(Clone, Copy)]
enum Guards<'a> {
    Not,
    /// And where the array is pinned by which programs jump, if it is.
    By(Option<&'a Path>),
}

/// The program and its maps, in the kernel, neither pinned nor attached. It accepts no cookie until
/// it is given keys.
pub struct Datapath {
    ebpf: Ebpf,
    keys: KeyStore,
    policies: PolicyStore,
    /// Once it was asked for.
    guards: Option<GuardStore>,
    settings: Settings,
    not_exact: Option<String>,
}

impl Datapath {
    /// Loads the program with maps of its own.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn load(settings: impl Into<Settings>) -> Result<Self, DatapathError> {
        let mut datapath = Self::load_with(settings.into(), Link::Ethernet, None, Guards::Not)?;
        datapath.program_mut()?;
        Ok(datapath)
    }

    /// As [`Self::load`], with a guard, which is off until [`Self::set_guard`].
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it, or takes no proof.
    pub fn load_guarding(settings: impl Into<Settings>) -> Result<Self, DatapathError> {
        let mut datapath =
            Self::load_with(settings.into(), Link::Ethernet, None, Guards::By(None))?;
        datapath.program_mut()?;
        guard::load_proof(&mut datapath)?;
        guard::set_stages(&mut datapath)?;
        Ok(datapath)
    }

    /// Takes the maps that are pinned in `namespace` and in `pins`, and makes and pins those that are not
    /// there yet. A program is loaded when it is first asked for.
    pub(super) fn load_pinned(
        settings: Settings,
        link: Link,
        namespace: &NamespacePins,
        pins: &InterfacePins,
    ) -> Result<Self, DatapathError> {
        Self::load_with(settings, link, Some((namespace, pins)), Guards::Not)
    }

    /// As [`Self::load_pinned`], with a guard to put on the interface; `stages` is where the array is pinned by
    /// which its program jumps.
    pub(super) fn load_guarded(
        settings: Settings,
        link: Link,
        namespace: &NamespacePins,
        pins: &InterfacePins,
        stages: &Path,
    ) -> Result<Self, DatapathError> {
        Self::load_with(
            settings,
            link,
            Some((namespace, pins)),
            Guards::By(Some(stages)),
        )
    }

    fn load_with(
        mut settings: Settings,
        link: Link,
        pinned: Option<(&NamespacePins, &InterfacePins)>,
        guards: Guards<'_>,
    ) -> Result<Self, DatapathError> {
        let object = if matches!(guards, Guards::By(_)) {
            guard::order(OBJECT)?
        } else {
            OBJECT.into()
        };
        let (offsets, not_exact) = match settings.mirror {
            Mirror::Packet => (SocketOffsets::default(), None),
            Mirror::Exact => match KernelTypes::read().and_then(|types| types.socket_offsets()) {
                Ok(offsets) => (offsets, None),
                Err(error) => (SocketOffsets::default(), Some(error.to_string())),
            },
        };
        let mut loader = EbpfLoader::new();
        if let Some((namespace, pins)) = pinned {
            for name in OF_NAMESPACE {
                loader.map_pin_path(name, namespace.map(name));
            }
            for name in OF_INTERFACE {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        if let Guards::By(Some(stages)) = guards {
            loader.map_pin_path(XDP_POLICY[1], stages);
        }
        let sources = settings.sources.constant();
        // A map has at least one entry, even if it is never used.
        loader.map_max_entries(SOURCES, settings.sources.max.max(1));
        if offsets.known == 0 {
            settings.mirror = Mirror::Packet;
        }
        let mut ebpf = loader
            .override_global(SOCKET_OFFSETS, &offsets, true)
            .override_global(SOURCE_SETTINGS, &sources, true)
            .override_global(BARE_PACKETS, &u32::from(link == Link::None), true)
            .override_global(
                GUARD_PROVES,
                &u32::from(matches!(guards, Guards::By(_))),
                true,
            )
            .load(&object)
            .map_err(|error| DatapathError::Load(Box::new(error)))?;
        let map = ebpf.take_map(KEYS).ok_or(DatapathError::Missing(KEYS))?;
        let policies = PolicyStore::take(&mut ebpf)?;
        Ok(Self {
            ebpf,
            policies,
            guards: None,
            keys: KeyStore::new(map, pinned.map(|(namespace, _)| namespace))?,
            settings,
            not_exact,
        })
    }

    /// How closely it follows the kernel.
    pub const fn mirror(&self) -> Mirror {
        self.settings.mirror
    }

    /// What it was told; [`Mirror::Packet`] where it could not be [`Mirror::Exact`].
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Why it follows less closely than it was to.
    pub fn not_exact(&self) -> Option<&str> {
        self.not_exact.as_deref()
    }

    /// The XDP program.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Missing`] where the object has none of that name.
    pub fn program(&self) -> Result<&Xdp, DatapathError> {
        let program = self
            .ebpf
            .program(XDP_PROGRAM)
            .ok_or(DatapathError::Missing(XDP_PROGRAM))?;
        Ok(program.try_into()?)
    }

    /// The XDP program, loaded, to attach it.
    pub(super) fn program_mut(&mut self) -> Result<&mut Xdp, DatapathError> {
        if self.program()?.fd().is_err() {
            let [name, stages] = XDP_POLICY;
            program_of::<Xdp>(&mut self.ebpf, XDP_PROGRAM)?.load()?;
            let policy = program_of::<Xdp>(&mut self.ebpf, name)?;
            policy.load()?;
            let policy = policy.fd()?.try_clone().map_err(ProgramError::IOError)?;
            self.set_stage(stages, POLICY_STAGE, &policy)?;
        }
        program_of(&mut self.ebpf, XDP_PROGRAM)
    }

    /// The TC program, loaded, to attach it.
    pub(super) fn classifier_mut(&mut self) -> Result<&mut SchedClassifier, DatapathError> {
        let program = program_of::<SchedClassifier>(&mut self.ebpf, TC_PROGRAM)?;
        if program.fd().is_err() {
            let [name, stages] = TC_POLICY;
            program.load()?;
            let policy = program_of::<SchedClassifier>(&mut self.ebpf, name)?;
            policy.load()?;
            let policy = policy.fd()?.try_clone().map_err(ProgramError::IOError)?;
            self.set_stage(stages, POLICY_STAGE, &policy)?;
        }
        program_of(&mut self.ebpf, TC_PROGRAM)
    }

    /// Loads the programs of that mode, if they are not.
    pub(super) fn load_for(&mut self, mode: AttachMode) -> Result<(), DatapathError> {
        match mode {
            AttachMode::Tc => self.classifier_mut().map(drop),
            _ => self.program_mut().map(drop),
        }
    }

    /// Puts a program in a place of the array of that name.
    pub(super) fn set_stage(
        &mut self,
        name: &'static str,
        stage: u32,
        program: &ProgramFd,
    ) -> Result<(), DatapathError> {
        let map = self.ebpf.map_mut(name);
        let mut stages: ProgramArray<_> = map
            .ok_or(DatapathError::Missing(name))?
            .try_into()
            .map_err(DatapathError::map(name))?;
        let set = stages.set(stage, program, 0);
        set.map_err(DatapathError::map(name))
    }

    /// The array by which the program of that mode jumps to the one for policies. The kernel empties it when
    /// no process holds it and nothing pins it.
    pub(super) fn pin_stages(&self, mode: AttachMode, path: &Path) -> Result<(), DatapathError> {
        let [_, name] = match mode {
            AttachMode::Tc => TC_POLICY,
            _ => XDP_POLICY,
        };
        self.map(name)?.pin(path).map_err(DatapathError::pin(path))
    }

    /// Puts a key set in force, as a whole.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_keys(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        self.keys.set(keys)
    }

    /// Puts a policy in force, as a whole; or none.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set_policy(&mut self, policy: Option<&Policy>) -> Result<(), DatapathError> {
        self.policies.set(policy)
    }

    /// Has the guard of a data path that is not pinned go by this, or by nothing.
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

    /// The guard's program that takes proof, of a data path that has a guard.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Missing`] where it has none.
    pub fn proof(&self) -> Result<&SchedClassifier, DatapathError> {
        let program = self.ebpf.program(TC_GUARD);
        let program = program.ok_or(DatapathError::Missing(TC_GUARD))?;
        Ok(program.try_into()?)
    }

    /// What the program has counted.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn counters(&self) -> Result<Snapshot, DatapathError> {
        Snapshot::read(self.map(COUNTERS)?, self.map(SLOTS_TAKEN)?)
    }

    /// How much data its SYNs had.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DatapathError> {
        read_sizes(self.map(SIZES)?)
    }

    /// Where its SYNs came from.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sources(&self) -> Result<Sources, DatapathError> {
        let mut sources = Sources::default();
        sources.add(self.map(SOURCES)?, self.settings.sources)?;
        Ok(sources)
    }

    /// The stream of its SYNs. It can be taken once.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it was taken, or a map cannot be read.
    pub fn take_events(&mut self, filter: EventFilter) -> Result<EventStream, DatapathError> {
        let mut take = |name| self.ebpf.take_map(name).ok_or(DatapathError::Missing(name));
        let maps = [take(EVENTS)?, take(EVENT_GATE)?, take(EVENT_BUDGET)?];
        EventStream::new(maps, filter, 1, None)
    }

    /// Where the keys are kept.
    pub(super) const fn keys_mut(&mut self) -> &mut KeyStore {
        &mut self.keys
    }

    /// The object's program of that name.
    pub(super) fn program_named<'a, P>(
        &'a mut self,
        name: &'static str,
    ) -> Result<&'a mut P, DatapathError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        program_of(&mut self.ebpf, name)
    }

    /// The map of that name.
    pub(super) fn map(&self, name: &'static str) -> Result<&Map, DatapathError> {
        self.ebpf.map(name).ok_or(DatapathError::Missing(name))
    }

    /// Hands the program's log lines to this process's log, for as long as the runtime lives.
    #[cfg(feature = "trace")]
    pub(super) fn forward_log(&mut self) -> std::io::Result<()> {
        use tokio::io::{Interest, unix::AsyncFd};

        let logger = aya_log::EbpfLogger::init(&mut self.ebpf).map_err(std::io::Error::other)?;
        // SAFETY: the logger owns its map's descriptor, and goes only with the `AsyncFd`.
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

/// The object's program of that name.
fn program_of<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(DatapathError::Missing(name))?;
    Ok(program.try_into()?)
}

/// The map that is pinned at `path`.
pub(super) fn map_from_pin(path: &Path, name: &'static str) -> Result<Map, DatapathError> {
    let data = MapData::from_pin(path).map_err(DatapathError::map(name))?;
    Map::from_map_data(data).map_err(DatapathError::map(name))
}
