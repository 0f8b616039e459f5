//! Moving an attached data path to another hook. Each packet is counted by one of the two programs, and no counter, key or
//! connection is lost.
//!
//! While both are attached, the XDP program marks the packets that it meets, and the one in traffic control leaves those
//! alone. A process that is killed in between leaves both attached and the marks on, which counts right; the next change of
//! this interface tidies up.

use std::{path::Path, time::Duration};

use tfo_common::abi::MOVING;
use tokio::time::sleep;

use super::{
    error::AttachError,
    hook::{HookReason, Job, Plan},
    modes::{self, Running, swap_program},
    transaction::{AttachTransaction, OnStray},
};
use crate::{
    datapath::{
        error::DatapathError,
        namespace::{AttachedInterface, Namespace, NamespaceError},
        pins::{
            ClsactFilter, InterfacePins, read_choice, read_settings, remove_file, write_settings,
            write_value,
        },
    },
    kernel::{bpf::OpenLink, link},
    model::{AttachMode, ModeChoice},
};

/// The longest time that a packet takes from XDP to traffic control.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// A data path that was moved to another hook.
#[derive(Clone, Debug)]
pub struct HookChange {
    /// The interface's name.
    pub interface: String,
    /// The mode before.
    pub from: AttachMode,
    /// The mode now.
    pub to: AttachMode,
    /// Why.
    pub reason: HookReason,
    /// The entry program's id.
    pub program_id: u32,
}

/// Moves every interface of `namespace` whose mode is [`ModeChoice::Auto`] to the hook that policy and guard call for. Due
/// after each change of either.
///
/// # Errors
///
/// [`AttachError`]; the interface stays where it was.
pub async fn follow_job(namespace: &Namespace) -> Result<Vec<HookChange>, AttachError> {
    let mut changes = Vec::new();
    for name in misplaced(namespace).await? {
        let transaction = AttachTransaction::begin(namespace, &name, OnStray::Refuse).await?;
        // Another process may have detached it meanwhile.
        if let Some((ours, mode)) = transaction.ours() {
            let change = transaction.change_hook(ours, mode, ModeChoice::Auto).await;
            changes.extend(transaction.end(change)?);
        }
    }
    Ok(changes)
}

/// The names of interfaces whose data path is not at the hook that the job calls for. Most often there are none, and nothing
/// is locked then.
async fn misplaced(namespace: &Namespace) -> Result<Vec<String>, AttachError> {
    let job = Job::of(namespace)?;
    let mut names = Vec::new();
    for interface in namespace.interfaces().await? {
        if interface.choice != ModeChoice::Auto || interface.mode.is_none() {
            continue;
        }
        let present = link::list().await.map_err(NamespaceError::from)?;
        let present = present.iter().find(|each| each.index == interface.index);
        let plan = present
            .map(|present| Plan::of(ModeChoice::Auto, job, present, Some(interface.program_id)));
        if let (Some(plan), Some(name)) = (plan, interface.name)
            && plan.modes.first() != interface.mode.as_ref()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Ends a change that was interrupted: the caller holds the lock.
pub(super) fn tidy_up(pins: &InterfacePins) -> Result<(), DatapathError> {
    let next = pins.next_link();
    if next.exists() {
        let link = open(&next)?;
        remove_file(&next)?;
        detach(link, &next)?;
    }
    if pins.filter().exists() && pins.link().exists() {
        remove_link(pins)?;
    }
    set_moving(pins, false)
}

fn remove_link(pins: &InterfacePins) -> Result<(), DatapathError> {
    let path = pins.link();
    let link = open(&path)?;
    remove_file(&path)?;
    remove_file(&pins.program())?;
    detach(link, &path)
}

fn open(path: &Path) -> Result<OpenLink, DatapathError> {
    OpenLink::open(path).map_err(DatapathError::io(path))
}

fn detach(link: OpenLink, path: &Path) -> Result<(), DatapathError> {
    link.detach().map_err(DatapathError::io(path))
}

fn set_moving(pins: &InterfacePins, moving: bool) -> Result<(), DatapathError> {
    let path = pins.map(MOVING);
    if path.exists() {
        write_value(&path, MOVING, u32::from(moving))?;
    }
    Ok(())
}

impl AttachTransaction<'_> {
    /// Moves the data path from mode `from` to the one that `choice` calls for. `None` where it is there.
    pub(super) async fn change_hook(
        &self,
        ours: &AttachedInterface,
        from: AttachMode,
        choice: ModeChoice,
    ) -> Result<Option<HookChange>, AttachError> {
        let job = Job::of(self.namespace)?;
        let plan = Plan::of(choice, job, &self.interface, Some(ours.program_id));
        let info = self.pins.info();
        let settings = read_settings(&info)?;
        if read_choice(&info)? != choice {
            write_settings(&info, settings, choice)?;
        }
        if plan.modes.first() == Some(&from) {
            return Ok(None);
        }
        let is_xdp = |mode| mode != AttachMode::Tc;
        let mut program_id = None;
        let mut present = from;
        if is_xdp(from) && plan.modes.iter().copied().take(1).all(is_xdp) {
            // One XDP program at a time: by way of traffic control.
            let way = Plan {
                modes: &[AttachMode::Tc],
                reason: plan.reason.clone(),
            };
            program_id = self.step(present, &way).await?.map(|it| it.program_id);
            present = AttachMode::Tc;
        }
        let running = match self.step(present, &plan).await {
            Err(error) if present != from => {
                // Back to where it was.
                let back = Plan::of(from.into(), job, &self.interface, None);
                self.step(present, &back).await?;
                return Err(error);
            }
            running => running?,
        };
        if let Some(running) = running {
            present = running.mode;
            program_id = Some(running.program_id);
        }
        let reason = plan.reason;
        Ok(program_id
            .filter(|_| present != from)
            .map(|program_id| HookChange {
                interface: self.interface.name.clone(),
                from,
                to: present,
                reason,
                program_id,
            }))
    }

    /// Moves it to the first mode of `plan` that the kernel takes; `None` where that is the present one.
    async fn step(&self, from: AttachMode, plan: &Plan) -> Result<Option<Stepped>, AttachError> {
        let pins = &self.pins;
        let modes = plan.modes.iter().position(|mode| *mode == from);
        let before = &plan.modes[..modes.unwrap_or(plan.modes.len())];
        set_moving(pins, true)?;
        if from != AttachMode::Tc {
            sleep(IN_FLIGHT).await;
        }
        for mode in before {
            let moved = self.attach_beside(from, *mode);
            match moved {
                Ok(running) => {
                    if from != AttachMode::Tc {
                        sleep(IN_FLIGHT).await;
                    }
                    set_moving(pins, false)?;
                    return Ok(Some(running));
                }
                // The next mode, or it stays.
                Err(_) if modes.is_some() || mode != before.last().unwrap_or(mode) => {}
                Err(error) => {
                    tidy_up(pins)?;
                    return Err(error);
                }
            }
        }
        tidy_up(pins)?;
        Ok(None)
    }

    /// Attaches the program of mode `to` beside the present one, then detaches that.
    fn attach_beside(&self, from: AttachMode, to: AttachMode) -> Result<Stepped, AttachError> {
        let pins = &self.pins;
        let settings = read_settings(&pins.info())?;
        let mut datapath = self.load(settings, pins)?;
        let (tail_calls, next) = (pins.tail_calls(), pins.next_tail_calls());
        // Left by a killed process.
        remove_file(&next)?;
        datapath.load_for(to)?;
        datapath.pin_tail_calls(to, &next)?;
        self.guard(to, settings, pins, &next)?;
        let Running {
            link, program_id, ..
        } = modes::attach_as(&mut datapath, &self.interface, to, pins)?;
        if let Some(link) = link {
            let path = pins.next_link();
            link.pin(&path).map_err(DatapathError::pin(&path))?;
            swap_program(&mut datapath, to, pins)?;
            self.replace_link(from, &path)?;
        } else {
            remove_link(pins)?;
        }
        std::fs::rename(&next, &tail_calls).map_err(DatapathError::io(&tail_calls))?;
        Ok(Stepped {
            mode: to,
            program_id,
        })
    }

    /// Detaches the program of mode `from`, whose successor's link is pinned at `next`. At no time does the interface seem to
    /// be without a program.
    fn replace_link(&self, from: AttachMode, next: &Path) -> Result<(), DatapathError> {
        let (link, filter) = (self.pins.link(), self.pins.filter());
        let rename = || std::fs::rename(next, &link).map_err(DatapathError::io(next));
        if from == AttachMode::Tc
            && let Some(placed) = ClsactFilter::read(&filter)?
        {
            rename()?;
            placed.remove().map_err(DatapathError::io(&filter))?;
            return remove_file(&filter);
        }
        let present = open(&link)?;
        rename()?;
        detach(present, &link)
    }
}

/// The result of one step.
struct Stepped {
    mode: AttachMode,
    program_id: u32,
}
