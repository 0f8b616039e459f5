//! Attaching to an interface, or replacing the program there, as one transaction: nothing is left of one that
//! failed.

use std::path::Path;

use tfo_common::switches::Switches;

use super::{
    error::{AttachError, ProgramOrigin},
    guard_fitness::unfit,
    guard_programs::{attach_edge, attach_guard},
    hook::{Job, Plan},
    joined::Place,
    modes::{self, Running},
    moved::{remove_departed, remove_stray},
    moving::tidy_up,
    outcome::{Attached, Ensured, Kept, Upgraded},
    own_programs::{attach_own, detach_own},
    sweep::{sweep, sweep_others},
    tunnels::Others,
};
use crate::{
    datapath::{
        error::DatapathError,
        namespace::{AttachedInterface, Namespace, NamespaceError, Unknown, mode_on},
        object::{Build, Datapath, attach_handshakes, write_build},
        pins::{
            InterfacePins, Lock, OtherLayout, check_pins, read_settings, write_device,
            write_settings,
        },
    },
    kernel::{
        device::DeviceFacts,
        link::{self, Interface},
        support,
    },
    model::{AttachMode, Mirror, ModeChoice, Settings},
};

/// A program of `tfo` that is attached to an interface.
pub(super) enum Found<'a> {
    /// Of this layout version.
    Ours(&'a AttachedInterface, AttachMode),
    /// Of another layout version, with its program's id and mode.
    Other(&'a OtherLayout, u32, AttachMode),
}

/// The treatment of a program that came with the interface from another network namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnStray {
    Refuse,
    Remove,
}

/// An attach in progress: holds the namespace's lock, with the leftovers of earlier ones removed.
pub(super) struct AttachTransaction<'a> {
    pub(super) namespace: &'a Namespace,
    _lock: Lock,
    pub(super) interface: Interface,
    pub(super) pins: InterfacePins,
    ours: Option<AttachedInterface>,
    other: Option<OtherLayout>,
    others: Others,
    /// The id of a stray program that was removed.
    removed: Option<u32>,
}

impl<'a> AttachTransaction<'a> {
    pub(super) async fn begin(
        namespace: &'a Namespace,
        name: &str,
        on_stray: OnStray,
    ) -> Result<Self, AttachError> {
        support::check()?;
        // Before anything is made.
        let interface = link::find(name).await.map_err(NamespaceError::from)?;
        check_pins()?;
        let removed = take_off_stray(namespace, &interface, on_stray).await?;
        // Leftovers elsewhere are no reason not to attach here.
        let _ = sweep_others(namespace);
        let lock = namespace.pins().lock_or_create()?;
        match Self::inspect(namespace, lock, name).await {
            Ok(transaction) => Ok(Self {
                removed,
                ..transaction
            }),
            Err(error) => {
                // The first error is the one to report.
                let _ = namespace.pins().remove_if_unused();
                Err(error)
            }
        }
    }

    async fn inspect(
        namespace: &'a Namespace,
        lock: Lock,
        name: &str,
    ) -> Result<Self, AttachError> {
        let mut forgot = sweep(namespace)?;
        let departed = namespace.departed().await?;
        remove_departed(namespace, &departed)?;
        forgot |= !departed.is_empty();
        // Only now: it may have come back, and have had one of these programs.
        let interface = link::find(name).await.map_err(NamespaceError::from)?;
        let index = interface.index;
        let pins = namespace.pins().interface(index);
        let mut attached = namespace.interfaces().await?;
        let present = link::list().await.map_err(NamespaceError::from)?;
        let others_here = Others::of(&attached, &present, index);
        attached.retain(|each| each.index == index);
        let ours = attached.pop().filter(|ours| ours.mode.is_some());
        if ours.is_some() {
            tidy_up(namespace.pins(), &pins)?;
        }
        if ours.is_none() && pins.exists() {
            // Pins of an interface that moved to another namespace and whose index was reused.
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
            others: others_here,
            removed: None,
        })
    }

    /// The attached program of this layout version, and its mode.
    pub(super) fn ours(&self) -> Option<(&AttachedInterface, AttachMode)> {
        let ours = self.ours.as_ref()?;
        Some((ours, ours.mode?))
    }

    /// The attached program; `None` where there is none.
    pub(super) fn found(&self) -> Option<Found<'_>> {
        if let Some(ours) = &self.ours {
            return ours.mode.map(|mode| Found::Ours(ours, mode));
        }
        let other = self.other.as_ref()?;
        let link = other.pins.link_state().ok()??;
        let mode = mode_on(link, &self.interface, Unknown::Here)?;
        Some(Found::Other(other, link.program_id, mode))
    }

    pub(super) fn already_attached(&self, found: &Found<'_>) -> AttachError {
        let (program_id, mode, origin) = match found {
            Found::Ours(ours, mode) => (ours.program_id, *mode, origin(ours)),
            Found::Other(other, program_id, mode) => {
                let version = other.version.clone();
                (*program_id, *mode, ProgramOrigin::OtherLayout(version))
            }
        };
        AttachError::AlreadyAttached {
            interface: self.interface.name.clone(),
            program_id,
            mode,
            origin,
        }
    }

    /// Removes what was made, where `result` is an error.
    pub(super) fn end<T>(&self, result: Result<T, AttachError>) -> Result<T, AttachError> {
        if result.is_err() {
            // The first error is the one to report.
            let swept = sweep(self.namespace);
            let _ = self.namespace.pins().remove_if_unused();
            if matches!(swept, Ok(true)) && self.namespace.pins().exists() {
                let _ = self.namespace.rebase();
            }
        }
        result
    }

    /// Attaches where no program of `tfo` is.
    pub(super) fn attach(
        &self,
        choice: ModeChoice,
        settings: Settings,
    ) -> Result<Attached, AttachError> {
        if let Some(xdp) = self.interface.xdp
            && matches!(choice, ModeChoice::Native | ModeChoice::Generic)
        {
            return Err(modes::occupied(&self.interface, xdp));
        }
        let plan = Plan::of(choice, Job::of(self.namespace)?, &self.interface, None);
        self.make(choice, settings, |datapath, pins| {
            modes::attach(datapath, &self.interface, &plan, pins)
        })
    }

    /// Replaces a program of another layout version, with new maps.
    pub(super) fn migrate(
        &self,
        other: &OtherLayout,
        mode: AttachMode,
        choice: ModeChoice,
        settings: Settings,
    ) -> Result<Upgraded, AttachError> {
        let attached = self.make(choice, settings, |datapath, pins| {
            let pins = [&other.pins, pins];
            Ok(modes::replace(datapath, &self.interface, pins, mode)?)
        })?;
        // The new pin keeps the link.
        other.remove()?;
        Ok(Upgraded {
            mode,
            mirror: attached.mirror,
            decap: attached.decap,
            not_exact: attached.not_exact,
            program_id: attached.program_id,
            before: ProgramOrigin::OtherLayout(other.version.clone()),
            kept_sources: None,
        })
    }

    /// Creates maps, has `run` attach the program, and pins all of it.
    fn make(
        &self,
        choice: ModeChoice,
        settings: Settings,
        run: impl FnOnce(&mut Datapath, &InterfacePins) -> Result<Running, AttachError>,
    ) -> Result<Attached, AttachError> {
        let pins = self.pins.begin()?;
        let mut datapath = self.load(settings, &pins)?;
        let keys = self.namespace.keys().import_into(datapath.keys_mut())?;
        let running = run(&mut datapath, &pins)?;
        let (mode, program_id) = (running.mode, running.program_id);
        datapath.pin_tail_calls(mode, &pins.tail_calls())?;
        self.join(mode, settings, &pins, &pins.tail_calls())?;
        write_settings(&pins.info(), datapath.settings(), choice)?;
        write_build(&pins.build())?;
        write_device(&pins.device(), &self.interface)?;
        self.namespace.rebase_with(|| datapath.counters())?;
        if let Some(link) = running.link {
            modes::pin_program(&mut datapath, mode, &pins.program())?;
            let path = pins.link();
            link.pin(&path).map_err(DatapathError::pin(&path))?;
        }
        self.pins.finish()?;
        Ok(Attached {
            mode,
            reason: running.reason,
            not_tcx: running.not_tcx,
            mirror: datapath.settings().mirror,
            decap: datapath.settings().decap,
            not_exact: datapath.not_exact().map(str::to_owned),
            program_id,
            keys,
            removed: self.removed,
        })
    }

    /// Loads the object onto the maps in `pins`.
    pub(super) fn load(
        &self,
        settings: Settings,
        pins: &InterfacePins,
    ) -> Result<Datapath, AttachError> {
        let link = self.interface.link.clone();
        let link = link.map_err(|layer| AttachError::LinkLayer {
            interface: self.interface.name.clone(),
            layer,
        })?;
        self.others.check(&self.interface, &settings)?;
        let namespace = self.namespace.pins();
        #[cfg_attr(not(feature = "trace"), expect(unused_mut, reason = "for its log"))]
        let mut datapath = Datapath::load_pinned(settings, link, namespace, pins)?;
        // Before the first packet.
        self.namespace.follow_routes()?;
        #[cfg(feature = "trace")]
        datapath
            .forward_log()
            .map_err(DatapathError::io(Path::new("the program's log")))?;
        Ok(datapath)
    }

    /// Attaches the programs that join the entry program, as far as they are in force: the guard's, those for own cookies.
    pub(super) fn join(
        &self,
        mode: AttachMode,
        settings: Settings,
        pins: &InterfacePins,
        tail_calls: &Path,
    ) -> Result<(), AttachError> {
        let Ok(link) = self.interface.link.clone() else {
            return Ok(());
        };
        let place = Place {
            settings,
            name: &self.interface.name,
            link,
            namespace: self.namespace.pins(),
            pins,
            mode,
            tail_calls,
        };
        self.join_guard(&place)?;
        if settings.mirror == Mirror::Packet {
            return Ok(detach_own(pins)?);
        }
        if self.namespace.own_cookies().get()?.is_some() {
            attach_own(&place)?;
        }
        Ok(())
    }

    /// Attaches the guard's programs, if there is a guard, and the interface is fit for them or had them before.
    fn join_guard(&self, place: &Place<'_>) -> Result<(), AttachError> {
        let switches = self.namespace.guard().switches()?;
        if !switches.has(Switches::GUARD) {
            return Ok(());
        }
        let facts = DeviceFacts::read(self.interface.index, place.name).unwrap_or_default();
        if !place.pins.guard().exists() && unfit(place.name, place.mode, &facts).is_some() {
            return Ok(());
        }
        if switches.has(Switches::GUARD_HOST) {
            attach_guard(place)?;
        }
        if switches.has(Switches::GUARD_EDGE) {
            attach_edge(place)?;
        }
        Ok(())
    }

    /// Replaces the namespace's program that learns of handshakes, where the policy needs it.
    fn upgrade_handshakes(&self) -> Result<(), DatapathError> {
        let policy = self.namespace.policy().summary()?;
        if policy.is_some_and(|policy| policy.withholds) {
            attach_handshakes(self.namespace.pins())?;
        }
        Ok(())
    }

    /// Replaces a program of this layout version, unless build and settings are equal.
    pub(super) fn keep_or_upgrade(
        &self,
        ours: &AttachedInterface,
        mode: AttachMode,
        choice: ModeChoice,
        mut settings: Settings,
    ) -> Result<Ensured, AttachError> {
        let present = read_settings(&self.pins.info())?;
        let asked_for = std::mem::replace(&mut settings.sources.max, present.sources.max);
        let kept_sources = (asked_for != settings.sources.max).then_some(settings.sources.max);
        let kept = || {
            Ensured::Kept(Kept {
                program: ours.clone(),
                kept_sources,
            })
        };
        if origin(ours) == ProgramOrigin::Own && present == settings {
            return Ok(kept());
        }
        let mut datapath = self.load(settings, &self.pins)?;
        if origin(ours) == ProgramOrigin::Own && present == datapath.settings() {
            // The mirror cannot be exact, and was not before.
            return Ok(kept());
        }
        let (tail_calls, next) = (self.pins.tail_calls(), self.pins.next_tail_calls());
        // Left by a killed process.
        let _ = std::fs::remove_file(&next);
        // Pinned before the new program runs; the old array stays until no run of the old program is left.
        datapath.load_for(mode)?;
        datapath.pin_tail_calls(mode, &next)?;
        self.join(mode, settings, &self.pins, &next)?;
        let running = modes::replace(&mut datapath, &self.interface, [&self.pins; 2], mode)?;
        std::fs::rename(&next, &tail_calls).map_err(DatapathError::io(&tail_calls))?;
        // A process killed before the last of these leaves another build or other settings: the next upgrades again.
        if running.link.is_some() {
            modes::swap_program(&mut datapath, mode, &self.pins)?;
        }
        write_settings(&self.pins.info(), datapath.settings(), choice)?;
        write_build(&self.pins.build())?;
        self.upgrade_handshakes()?;
        Ok(Ensured::Upgraded(Upgraded {
            mode,
            mirror: datapath.settings().mirror,
            decap: datapath.settings().decap,
            not_exact: datapath.not_exact().map(str::to_owned),
            program_id: running.program_id,
            before: origin(ours),
            kept_sources,
        }))
    }
}

/// Refuses or removes a program that came with `interface` from another network namespace. Gives the id of one that was
/// removed. The caller holds no lock.
async fn take_off_stray(
    namespace: &Namespace,
    interface: &Interface,
    on_stray: OnStray,
) -> Result<Option<u32>, AttachError> {
    let mut strays = namespace.strays().await?;
    strays.retain(|stray| stray.index == interface.index);
    for stray in &strays {
        if on_stray == OnStray::Refuse {
            return Err(AttachError::Moved {
                interface: stray.interface.clone(),
                program_id: stray.program_id,
                mode: stray.mode,
            });
        }
        remove_stray(stray)?;
    }
    Ok(strays.first().map(|stray| stray.program_id))
}

fn origin(ours: &AttachedInterface) -> ProgramOrigin {
    match &ours.build {
        Some(build) if *build == Build::own() => ProgramOrigin::Own,
        other => ProgramOrigin::Other(other.clone()),
    }
}
