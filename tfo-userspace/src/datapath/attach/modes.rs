//! The modes: native and generic XDP, TCX, clsact.

use std::{io, os::fd::AsFd as _, path::Path};

use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode as AyaMode,
    links::{FdLink, LinkError, PinnedLink},
    loaded_programs,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{
    clsact::{attach_filter, replace_filter},
    error::AttachError,
    hook::{HookReason, Plan},
};
use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{ClsactFilter, InterfacePins},
    },
    kernel::{
        link::{self, AttachedXdp, Interface},
        tc::Direction,
    },
    model::AttachMode,
};

/// A program that is attached to an interface.
pub(super) struct Running {
    /// Keeps it attached until it is pinned; `None` for a clsact filter, which stays by itself.
    pub(super) link: Option<FdLink>,
    pub(super) mode: AttachMode,
    pub(super) program_id: u32,
    /// Why this mode.
    pub(super) reason: HookReason,
    /// Why it is a clsact filter and not a TCX link, where it is one.
    pub(super) not_tcx: Option<String>,
}

/// Attaches in the first mode of `plan` that the kernel takes.
pub(super) fn attach(
    datapath: &mut Datapath,
    interface: &Interface,
    plan: &Plan,
    pins: &InterfacePins,
) -> Result<Running, AttachError> {
    let mut first = None;
    let mut last = AttachError::NotAttached {
        interface: interface.name.clone(),
    };
    for mode in plan.modes {
        match attach_as(datapath, interface, *mode, pins) {
            Ok(running) => {
                let reason = first.map_or_else(|| plan.reason.clone(), HookReason::NotNative);
                return Ok(Running { reason, ..running });
            }
            Err(error) => {
                let AttachError::Refused { reason, .. } = &error else {
                    return Err(error);
                };
                first.get_or_insert_with(|| format!("the kernel: {reason}"));
                last = error;
            }
        }
    }
    Err(last)
}

/// Attaches in one mode. `pins` take the place of a clsact filter.
///
/// # Errors
///
/// [`AttachError::Refused`] is the kernel's, with a remedy.
pub(super) fn attach_as(
    datapath: &mut Datapath,
    interface: &Interface,
    mode: AttachMode,
    pins: &InterfacePins,
) -> Result<Running, AttachError> {
    if mode == AttachMode::Tc {
        return attach_in_tc(datapath, interface, pins);
    }
    let (attach_as, remedy) = match mode {
        AttachMode::Generic => (AyaMode::Skb, ""),
        _ => (
            AyaMode::Driver,
            ": --mode auto or tc works on any interface",
        ),
    };
    let link = attach_in(datapath, interface.index, (attach_as, mode))?;
    let link = match link {
        Ok(link) => link,
        Err(error) => {
            let program = datapath.program()?.fd().map_err(DatapathError::from)?;
            let words = link::xdp_refusal(interface.index, mode, program.as_fd());
            return Err(AttachError::Refused {
                interface: interface.name.clone(),
                mode,
                reason: words.unwrap_or_else(|| kernel_error(&error)),
                remedy,
            });
        }
    };
    let program = datapath.program()?;
    Ok(Running {
        link: Some(link),
        mode,
        program_id: program.info().map_err(DatapathError::from)?.id(),
        reason: HookReason::Asked,
        not_tcx: None,
    })
}

fn attach_in_tc(
    datapath: &mut Datapath,
    interface: &Interface,
    pins: &InterfacePins,
) -> Result<Running, AttachError> {
    const MODE: AttachMode = AttachMode::Tc;
    let (link, program_id, not_tcx) = match attach_tc(datapath, &interface.name)? {
        Ok((link, program_id)) => (Some(link), program_id, None),
        Err(error) => {
            let not_tcx = kernel_error(&error);
            let program = datapath.classifier_mut()?;
            let place = (interface.index, interface.name.as_str());
            let (path, sibling) = (pins.filter(), pins.egress_filter());
            match attach_filter(program, place, Direction::Ingress, [&path, &sibling])? {
                Ok(program_id) => (None, program_id, Some(not_tcx)),
                Err(error) => {
                    let remedy = ": it takes TCX, which Linux has since 6.6, or a clsact filter (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)";
                    return Err(refused(interface, MODE, &error, remedy));
                }
            }
        }
    };
    Ok(Running {
        link,
        mode: MODE,
        program_id,
        reason: HookReason::Asked,
        not_tcx,
    })
}

fn refused(
    interface: &Interface,
    mode: AttachMode,
    error: &ProgramError,
    remedy: &'static str,
) -> AttachError {
    AttachError::Refused {
        interface: interface.name.clone(),
        mode,
        reason: kernel_error(error),
        remedy,
    }
}

/// Replaces the program that the pins `from` hold on the interface, in one step: every packet meets exactly one of
/// the two. The pins `to`, which may be the same, hold the new one.
pub(super) fn replace(
    datapath: &mut Datapath,
    interface: &Interface,
    [from, to]: [&InterfacePins; 2],
    mode: AttachMode,
) -> Result<Running, DatapathError> {
    let paths = [from.filter(), to.filter()];
    if let Some(filter) = ClsactFilter::read(&paths[0])? {
        return Ok(Running {
            link: None,
            mode,
            program_id: replace_filter(
                filter,
                datapath.classifier_mut()?,
                &interface.name,
                &paths,
            )?,
            reason: HookReason::Asked,
            not_tcx: None,
        });
    }
    replace_in_link(datapath, &from.link(), mode)
}

fn replace_in_link(
    datapath: &mut Datapath,
    link: &Path,
    mode: AttachMode,
) -> Result<Running, DatapathError> {
    let pinned = PinnedLink::from_pin(link).map_err(not_a_link)?;
    let (link, info) = if mode == AttachMode::Tc {
        let program = datapath.classifier_mut()?;
        let held = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(not_a_link)?;
        let id = program.attach_to_link(held)?;
        (FdLink::try_from(program.take_link(id)?), program.info()?)
    } else {
        let program = datapath.xdp_mut()?;
        let held = XdpLink::try_from(FdLink::from(pinned)).map_err(not_a_link)?;
        let id = program.attach_to_link(held)?;
        (FdLink::try_from(program.take_link(id)?), program.info()?)
    };
    Ok(Running {
        link: Some(link.map_err(not_a_link)?),
        mode,
        program_id: info.id(),
        reason: HookReason::Asked,
        not_tcx: None,
    })
}

pub(super) fn not_a_link(error: LinkError) -> DatapathError {
    ProgramError::IOError(io::Error::other(error)).into()
}

/// Attaches the TC program before all others, so that it sees every frame that they see. The outer error is
/// tfo's, the inner one the kernel's.
fn attach_tc(
    datapath: &mut Datapath,
    name: &str,
) -> Result<Result<(FdLink, u32), ProgramError>, DatapathError> {
    let program = datapath.classifier_mut()?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = match program.attach_with_options(name, TcAttachType::Ingress, first) {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    let link = program.take_link(id)?;
    let program_id = program.info()?.id();
    Ok(FdLink::try_from(link)
        .map(|link| (link, program_id))
        .map_err(|_| ProgramError::IOError(io::Error::other("the kernel gave no TCX link"))))
}

/// Attaches the XDP program. The outer error is tfo's, the inner one the kernel's on this mode.
fn attach_in(
    datapath: &mut Datapath,
    index: u32,
    (attach_as, mode): (AyaMode, AttachMode),
) -> Result<Result<FdLink, ProgramError>, DatapathError> {
    let program = datapath.xdp_mut()?;
    let id = match program.attach_to_if_index(index, attach_as) {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    let link = program.take_link(id)?;
    Ok(FdLink::try_from(link).map_err(|_| {
        // Attached by netlink (before Linux 5.9), which cannot be pinned and does not end with the process.
        let off = link::remove_xdp(index, mode);
        let none = "the kernel gave no XDP link";
        ProgramError::IOError(off.err().unwrap_or_else(|| io::Error::other(none)))
    }))
}

/// The system call's error, without aya's context.
fn kernel_error(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        error => error.to_string(),
    }
}

/// The error for an interface with another XDP program.
pub(super) fn occupied(interface: &Interface, xdp: AttachedXdp) -> AttachError {
    AttachError::Occupied {
        interface: interface.name.clone(),
        name: program_name(xdp.program_id),
        program_id: xdp.program_id,
        mode: xdp.mode,
    }
}

fn program_name(id: u32) -> String {
    loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "unnamed".to_owned())
}

/// Replaces the pinned program by the one of `mode`, in one step.
pub(super) fn swap_program(
    datapath: &mut Datapath,
    mode: AttachMode,
    pins: &InterfacePins,
) -> Result<(), DatapathError> {
    let (path, next) = (pins.program(), pins.next_program());
    // Left by a killed process.
    let _ = std::fs::remove_file(&next);
    pin_program(datapath, mode, &next)?;
    std::fs::rename(&next, &path).map_err(DatapathError::io(&path))
}

/// Pins the entry program of `mode`.
pub(super) fn pin_program(
    datapath: &mut Datapath,
    mode: AttachMode,
    path: &Path,
) -> Result<(), DatapathError> {
    match mode {
        AttachMode::Tc => datapath.classifier_mut()?.pin(path),
        _ => datapath.xdp_mut()?.pin(path),
    }
    .map_err(DatapathError::pin(path))
}
