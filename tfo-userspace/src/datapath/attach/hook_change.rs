//! Moving an attached data path to another hook. Each packet is counted by one of the two programs, and no counter, key or
//! connection is lost: [`moving`](super::moving).

use std::time::Duration;

use tokio::time::sleep;

use super::{
    error::AttachError,
    hook::{Job, Plan, plans},
    modes::{self, Running, swap_program},
    moving::{mark, remove_link, replace_link, tidy_up, unmark},
    outcome::HookChange,
    transaction::{AttachTransaction, OnStray},
};
use crate::{
    datapath::{
        error::DatapathError,
        namespace::{AttachedInterface, Namespace},
        pins::{read_settings, remove_file, write_settings},
    },
    model::{AttachMode, ModeChoice},
};

/// The longest time that a packet takes from XDP to traffic control.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// Moves every interface of `namespace` whose mode is [`ModeChoice::Auto`] to the hook that policy and guard call for. Due
/// after each change of either. Most often there is none to move, and nothing is locked then.
///
/// # Errors
///
/// [`AttachError`]; the interface stays where it was.
pub async fn follow_job(namespace: &Namespace) -> Result<Vec<HookChange>, AttachError> {
    let mut changes = Vec::new();
    let interfaces = namespace.interfaces().await?;
    for (interface, plan) in plans(namespace, &interfaces).await? {
        let is_there = plan.modes.first() == interface.mode.as_ref();
        let (ModeChoice::Auto, false, Some(name)) = (interface.choice, is_there, &interface.name)
        else {
            continue;
        };
        let transaction = AttachTransaction::begin(namespace, name, OnStray::Refuse).await?;
        // Another process may have detached it meanwhile.
        if let Some((ours, mode)) = transaction.ours() {
            let change = transaction.change_hook(ours, mode, ModeChoice::Auto).await;
            changes.extend(transaction.end(change)?);
        }
    }
    Ok(changes)
}

/// A program that is attached.
#[derive(Clone, Copy)]
struct Placed {
    mode: AttachMode,
    program_id: u32,
}

impl AttachTransaction<'_> {
    /// Moves the data path from mode `from` to the one that `choice` calls for. `None` where it is there.
    pub(super) async fn change_hook(
        &self,
        ours: &AttachedInterface,
        from: AttachMode,
        choice: ModeChoice,
    ) -> Result<Option<HookChange>, AttachError> {
        if let Some(xdp) = self.interface.xdp
            && xdp.program_id != ours.program_id
            && matches!(choice, ModeChoice::Native | ModeChoice::Generic)
        {
            return Err(modes::occupied(&self.interface, xdp));
        }
        let (job, info) = (Job::of(self.namespace)?, self.pins.info());
        let plan = Plan::of(choice, job, &self.interface, Some(ours.program_id));
        if ours.choice != choice {
            write_settings(&info, read_settings(&info)?, choice)?;
        }
        if plan.modes.first() == Some(&from) {
            return Ok(None);
        }
        let program_id = ours.program_id;
        let mut placed = Placed {
            mode: from,
            program_id,
        };
        let is_xdp = |mode| mode != AttachMode::Tc;
        if is_xdp(from) && plan.modes.first().copied().is_some_and(is_xdp) {
            // One XDP program at a time: by way of traffic control.
            placed = self.step(placed, &[AttachMode::Tc]).await?;
        }
        placed = match self.step(placed, plan.modes).await {
            Err(error) if placed.mode != from => {
                self.step(placed, &[from]).await?;
                return Err(error);
            }
            placed => placed?,
        };
        Ok((placed.mode != from).then(|| HookChange {
            interface: self.interface.name.clone(),
            from,
            to: placed.mode,
            reason: plan.reason,
            program_id: placed.program_id,
        }))
    }

    /// Moves the program to the first of `modes` that the kernel takes. It stays where that is the present one.
    async fn step(&self, present: Placed, modes: &[AttachMode]) -> Result<Placed, AttachError> {
        let is_xdp = present.mode != AttachMode::Tc;
        mark(self.namespace.pins())?;
        if is_xdp {
            sleep(IN_FLIGHT).await;
        }
        let mut refused = None;
        for mode in modes.iter().take_while(|mode| **mode != present.mode) {
            match self.attach_beside(*mode) {
                Ok(placed) => {
                    if is_xdp {
                        sleep(IN_FLIGHT).await;
                    }
                    unmark(self.namespace.pins())?;
                    return Ok(placed);
                }
                Err(error) => refused = Some(error),
            }
        }
        tidy_up(self.namespace.pins(), &self.pins)?;
        match refused {
            Some(error) if !modes.contains(&present.mode) => Err(error),
            _ => Ok(present),
        }
    }

    /// Attaches the program of mode `to` beside the present one, then detaches that.
    fn attach_beside(&self, to: AttachMode) -> Result<Placed, AttachError> {
        let pins = &self.pins;
        let settings = read_settings(&pins.info())?;
        let mut datapath = self.load(settings, pins)?;
        let (tail_calls, next) = (pins.tail_calls(), pins.next_tail_calls());
        // Left by a killed process.
        remove_file(&next)?;
        datapath.load_for(to)?;
        datapath.pin_tail_calls(to, &next)?;
        self.join(to, settings, pins, &next)?;
        let Running {
            link, program_id, ..
        } = modes::attach_as(&mut datapath, &self.interface, to, pins)?;
        if let Some(link) = link {
            let path = pins.next_link();
            link.pin(&path).map_err(DatapathError::pin(&path))?;
            swap_program(&mut datapath, to, pins)?;
            replace_link(pins)?;
        } else {
            remove_link(pins)?;
        }
        std::fs::rename(&next, &tail_calls).map_err(DatapathError::io(&tail_calls))?;
        Ok(Placed {
            mode: to,
            program_id,
        })
    }
}
