//! Attaching the data path to an interface, and putting another build's in its place.

use std::path::Path;

use super::{
    AttachError, AttachedInterface, Build, Datapath, DatapathError, Namespace, NamespaceError,
    attach_error::Whose,
    build, guard, info,
    lock::Lock,
    modes,
    modes::Running,
    namespace::runs,
    pins::{InterfacePins, OtherLayout},
};
use crate::{
    kernel::{
        link::{self, Interface},
        support,
    },
    model::{AttachMode, KeyPair, Mirror, ModeChoice, Settings},
};

/// What came of attaching.
#[derive(Debug)]
pub struct Attached {
    /// How the program runs.
    pub mode: AttachMode,
    /// Why it does not run in the driver, where it was to if it could.
    pub not_native: Option<String>,
    /// Why it is a clsact filter and has no TCX link, where it is one.
    pub not_tcx: Option<String>,
    /// How closely it follows the kernel.
    pub mirror: Mirror,
    /// Why it follows less closely than it was to.
    pub not_exact: Option<String>,
    /// Its id.
    pub program_id: u32,
    /// The keys in force.
    pub keys: KeyPair,
}

/// What came of replacing a program in place.
#[derive(Debug)]
pub struct Upgraded {
    /// How the program runs, as the one before did.
    pub mode: AttachMode,
    /// How closely it follows the kernel.
    pub mirror: Mirror,
    /// Why it follows less closely than it was to.
    pub not_exact: Option<String>,
    /// Its id.
    pub program_id: u32,
    /// Whose program it replaced.
    pub before: Whose,
    /// The number of sources that it keeps, where another was asked for: the map stays as it was made.
    pub kept_sources: Option<u32>,
}

/// What came of [`ensure`].
#[derive(Debug)]
pub enum Ensured {
    /// Nothing was attached.
    Attached(Attached),
    /// Another build's program, or one with other settings, was, and was replaced.
    Upgraded(Upgraded),
    /// This build's program is attached, with these settings.
    Kept(AttachedInterface),
}

/// Attaches the data path to the interface of that name in the calling thread's namespace, with the
/// keys that the kernel has; where it has none, both get a random one. Program, link and maps are
/// pinned: they stay when the process ends.
///
/// # Errors
///
/// [`AttachError`]; what was made on the way is then removed again.
pub async fn attach(
    namespace: &Namespace,
    name: &str,
    choice: ModeChoice,
    settings: Settings,
) -> Result<Attached, AttachError> {
    let turn = Turn::take(namespace, name).await?;
    turn.end(match turn.found() {
        Some(found) => Err(turn.twice(&found)),
        None => turn.attach(choice, settings),
    })
}

/// As [`attach`]; but where `tfo` is attached already, it sees to it that it is this build's program
/// with these settings. A program is replaced in one step: no packet goes by uncounted, and its mode,
/// counts and keys stay as they were. Only counts of another layout version start anew.
///
/// # Errors
///
/// [`AttachError`]; what was attached stays so.
pub async fn ensure(
    namespace: &Namespace,
    name: &str,
    choice: ModeChoice,
    settings: Settings,
) -> Result<Ensured, AttachError> {
    let turn = Turn::take(namespace, name).await?;
    turn.end(match turn.found() {
        None => turn.attach(choice, settings).map(Ensured::Attached),
        Some(Found::Ours(ours, mode)) => turn.keep_or_upgrade(ours, mode, settings),
        Some(Found::Other(other, _, mode)) => {
            let upgraded = turn.migrate(other, mode, settings);
            upgraded.map(Ensured::Upgraded)
        }
    })
}

/// What is attached to an interface.
enum Found<'a> {
    /// In this layout version.
    Ours(&'a AttachedInterface, AttachMode),
    /// In another one: its pins, its program's id, and its mode.
    Other(&'a OtherLayout, u32, AttachMode),
}

/// One process's turn to attach to an interface, with nothing left over from earlier ones.
struct Turn<'a> {
    namespace: &'a Namespace,
    _lock: Lock,
    interface: Interface,
    pins: InterfacePins,
    ours: Option<AttachedInterface>,
    other: Option<OtherLayout>,
}

impl<'a> Turn<'a> {
    async fn take(namespace: &'a Namespace, name: &str) -> Result<Self, AttachError> {
        support::check()?;
        // A name that does not exist is refused before anything is made.
        link::find(name).await.map_err(NamespaceError::from)?;
        // What is left elsewhere is no reason not to attach here.
        let _ = namespace.sweep_others();
        let lock = namespace.pins().lock_or_create()?;
        let turn = Self::begin(namespace, lock, name).await;
        if turn.is_err() {
            // The error that counts is the first one.
            let _ = namespace.pins().remove_if_unused();
        }
        turn
    }

    async fn begin(namespace: &'a Namespace, lock: Lock, name: &str) -> Result<Self, AttachError> {
        let forgot = namespace.sweep()?;
        let interface = link::find(name).await.map_err(NamespaceError::from)?;
        let index = interface.index;
        let pins = namespace.pins().interface(index);
        let mut attached = namespace.interfaces().await?;
        attached.retain(|each| each.index == index);
        let ours = attached.pop().filter(|ours| ours.mode.is_some());
        if ours.is_none() && pins.exists() {
            // They are of an interface that went to another namespace, and whose index came again.
            pins.retire()?.remove()?;
        }
        if forgot {
            namespace.rebase()?;
        }
        let mut others = OtherLayout::all(namespace.cookie())?;
        others.retain(|other| other.pins.index == index);
        Ok(Self {
            namespace,
            _lock: lock,
            interface,
            pins,
            ours,
            other: others.pop(),
        })
    }

    /// What is attached.
    fn found(&self) -> Option<Found<'_>> {
        if let Some(ours) = &self.ours {
            return ours.mode.map(|mode| Found::Ours(ours, mode));
        }
        let other = self.other.as_ref()?;
        let link = other.pins.link_state().ok()??;
        let mode = runs(link, &self.interface)?;
        Some(Found::Other(other, link.program_id, mode))
    }

    fn twice(&self, found: &Found<'_>) -> AttachError {
        let (program_id, mode, whose) = match found {
            Found::Ours(ours, mode) => (ours.program_id, *mode, whose(ours)),
            Found::Other(other, program_id, mode) => {
                let version = other.version.clone();
                (*program_id, *mode, Whose::OtherLayout(version))
            }
        };
        AttachError::Twice {
            interface: self.interface.name.clone(),
            program_id,
            mode,
            whose,
        }
    }

    /// Leaves nothing behind where it failed.
    fn end<T>(&self, result: Result<T, AttachError>) -> Result<T, AttachError> {
        if result.is_err() {
            // The error that counts is the first one.
            let swept = self.namespace.sweep();
            let _ = self.namespace.pins().remove_if_unused();
            if matches!(swept, Ok(true)) && self.namespace.pins().exists() {
                let _ = self.namespace.rebase();
            }
        }
        result
    }

    /// Attaches where nothing is.
    fn attach(&self, choice: ModeChoice, settings: Settings) -> Result<Attached, AttachError> {
        if let Some(xdp) = self.interface.xdp
            && matches!(choice, ModeChoice::Native | ModeChoice::Generic)
        {
            return Err(modes::occupied(&self.interface, xdp));
        }
        self.make(settings, |datapath, pins| {
            modes::attach(datapath, &self.interface, choice, pins)
        })
    }

    /// Replaces a program of another layout version: its maps cannot be taken over.
    fn migrate(
        &self,
        other: &OtherLayout,
        mode: AttachMode,
        settings: Settings,
    ) -> Result<Upgraded, AttachError> {
        let attached = self.make(settings, |datapath, pins| {
            let pins = [&other.pins, pins];
            Ok(modes::replace(datapath, &self.interface, pins, mode)?)
        })?;
        // The link lives on by its new pin.
        other.remove()?;
        Ok(Upgraded {
            mode,
            mirror: attached.mirror,
            not_exact: attached.not_exact,
            program_id: attached.program_id,
            before: Whose::OtherLayout(other.version.clone()),
            kept_sources: None,
        })
    }

    /// Makes maps, has `run` put the program on the interface, and pins all of it.
    fn make(
        &self,
        settings: Settings,
        run: impl FnOnce(&mut Datapath, &InterfacePins) -> Result<Running, AttachError>,
    ) -> Result<Attached, AttachError> {
        let pins = self.pins.begin()?;
        let mut datapath = self.load(settings, &pins)?;
        let keys = self.namespace.take_kernel_keys(datapath.keys_mut())?;
        let running = run(&mut datapath, &pins)?;
        let (mode, program_id) = (running.mode, running.program_id);
        datapath.pin_stages(mode, &pins.stages())?;
        self.guard(mode, settings, &pins, &pins.stages())?;
        info::write(&pins.info(), datapath.settings())?;
        build::write(&pins.build())?;
        self.namespace.rebase_with(|| datapath.counters())?;
        if let Some(link) = running.link {
            modes::pin_program(&mut datapath, mode, &pins.program())?;
            let path = pins.link();
            link.pin(&path).map_err(DatapathError::pin(&path))?;
        }
        self.pins.finish()?;
        Ok(Attached {
            mode,
            not_native: running.not_native,
            not_tcx: running.not_tcx,
            mirror: datapath.settings().mirror,
            not_exact: datapath.not_exact().map(str::to_owned),
            program_id,
            keys,
        })
    }

    /// Loads the object onto the maps in `pins`.
    fn load(&self, settings: Settings, pins: &InterfacePins) -> Result<Datapath, AttachError> {
        let link = self.interface.link.clone();
        let link = link.map_err(|layer| AttachError::LinkLayer {
            interface: self.interface.name.clone(),
            layer,
        })?;
        let namespace = self.namespace.pins();
        #[cfg_attr(not(feature = "trace"), expect(unused_mut, reason = "for its log"))]
        let mut datapath = Datapath::load_pinned(settings, link, namespace, pins)?;
        #[cfg(feature = "trace")]
        datapath
            .forward_log()
            .map_err(DatapathError::io(Path::new("the program's log")))?;
        Ok(datapath)
    }

    /// Puts the guard's programs on the interface, if there is a guard and it can have them.
    fn guard(
        &self,
        mode: AttachMode,
        settings: Settings,
        pins: &InterfacePins,
        stages: &Path,
    ) -> Result<(), AttachError> {
        let Ok(link) = self.interface.link.clone() else {
            return Ok(());
        };
        if mode == AttachMode::Tc || !self.namespace.is_guarded()? {
            return Ok(());
        }
        let (name, namespace) = (&self.interface.name, self.namespace.pins());
        Ok(guard::post(
            settings,
            (name, link),
            namespace,
            pins,
            stages,
        )?)
    }

    /// Replaces a program of this layout version, unless it is the same.
    fn keep_or_upgrade(
        &self,
        ours: &AttachedInterface,
        mode: AttachMode,
        mut settings: Settings,
    ) -> Result<Ensured, AttachError> {
        let present = info::read(&self.pins.info())?;
        let asked_for = std::mem::replace(&mut settings.sources.max, present.sources.max);
        if whose(ours) == Whose::Own && present == settings {
            return Ok(Ensured::Kept(ours.clone()));
        }
        let mut datapath = self.load(settings, &self.pins)?;
        if whose(ours) == Whose::Own && present == datapath.settings() {
            // It cannot be as exact as it is to be, and was not before.
            return Ok(Ensured::Kept(ours.clone()));
        }
        let (stages, next) = (self.pins.stages(), self.pins.next_stages());
        // Left by one that was interrupted here.
        let _ = std::fs::remove_file(&next);
        // Before the new program runs, and until no run of the old one is left.
        datapath.load_for(mode)?;
        datapath.pin_stages(mode, &next)?;
        self.guard(mode, settings, &self.pins, &next)?;
        let running = modes::replace(&mut datapath, &self.interface, [&self.pins; 2], mode)?;
        std::fs::rename(&next, &stages).map_err(DatapathError::io(&stages))?;
        // What was killed before the last of these has another build or settings, and is upgraded again.
        if running.link.is_some() {
            modes::swap_program(&mut datapath, mode, &self.pins)?;
        }
        info::write(&self.pins.info(), datapath.settings())?;
        build::write(&self.pins.build())?;
        Ok(Ensured::Upgraded(Upgraded {
            mode,
            mirror: datapath.settings().mirror,
            not_exact: datapath.not_exact().map(str::to_owned),
            program_id: running.program_id,
            before: whose(ours),
            kept_sources: (asked_for != settings.sources.max).then_some(settings.sources.max),
        }))
    }
}

fn whose(ours: &AttachedInterface) -> Whose {
    match &ours.build {
        Some(build) if *build == Build::own() => Whose::Own,
        other => Whose::Other(other.clone()),
    }
}
