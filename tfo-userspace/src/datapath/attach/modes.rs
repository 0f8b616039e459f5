//! The modes: native and generic XDP, TCX, clsact.

use std::{io, path::Path};

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
};
use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{ClsactFilter, InterfacePins},
    },
    kernel::link::{self, AttachedXdp, Interface},
    model::{AttachMode, ModeChoice},
};

/// A program that is attached to an interface.
pub(super) struct Running {
    /// Keeps it attached until it is pinned; `None` for a clsact filter, which stays by itself.
    pub(super) link: Option<FdLink>,
    pub(super) mode: AttachMode,
    pub(super) program_id: u32,
    /// Why it is not native, where native was tried.
    pub(super) not_native: Option<String>,
    /// Why it is a clsact filter and not a TCX link, where it is one.
    pub(super) not_tcx: Option<String>,
}

/// Attaches in the best mode that `choice` allows.
pub(super) fn attach(
    datapath: &mut Datapath,
    interface: &Interface,
    choice: ModeChoice,
    pins: &InterfacePins,
) -> Result<Running, AttachError> {
    let (xdp, mut not_native) = xdp_modes(choice, interface);
    for (attach_as, mode) in xdp.iter().copied() {
        let error = match attach_in(datapath, interface.index, (attach_as, mode))? {
            Ok(link) => {
                let program = datapath.program()?;
                return Ok(Running {
                    link: Some(link),
                    mode,
                    program_id: program.info().map_err(DatapathError::from)?.id(),
                    not_native,
                    not_tcx: None,
                });
            }
            Err(error) => error,
        };
        if choice == ModeChoice::Native {
            let remedy = ": --mode generic works on any interface, more slowly";
            return Err(refused(interface, mode, &error, remedy));
        }
        if choice == ModeChoice::Generic {
            return Err(refused(interface, mode, &error, ""));
        }
        not_native.get_or_insert_with(|| format!("the driver refuses: {}", kernel_error(&error)));
    }
    let (link, program_id, not_tcx) = match attach_tc(datapath, &interface.name)? {
        Ok((link, program_id)) => (Some(link), program_id, None),
        Err(error) => {
            let not_tcx = kernel_error(&error);
            match attach_filter(datapath, interface, &pins.filter())? {
                Ok(program_id) => (None, program_id, Some(not_tcx)),
                Err(error) => {
                    let remedy = ": it takes TCX, which Linux has since 6.6, or a clsact filter (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)";
                    return Err(refused(interface, AttachMode::Tc, &error, remedy));
                }
            }
        }
    };
    Ok(Running {
        link,
        mode: AttachMode::Tc,
        program_id,
        not_native,
        not_tcx,
    })
}

/// The XDP modes to try, in this order, and the reason if native mode is not to be tried.
fn xdp_modes(
    choice: ModeChoice,
    interface: &Interface,
) -> (&'static [(AyaMode, AttachMode)], Option<String>) {
    match (choice, interface.xdp) {
        (ModeChoice::Native, _) => (&[(AyaMode::Driver, AttachMode::Native)], None),
        (ModeChoice::Generic, _) => (&[(AyaMode::Skb, AttachMode::Generic)], None),
        (ModeChoice::Tc, _) => (&[], None),
        (ModeChoice::Auto, None) => (
            &[
                (AyaMode::Driver, AttachMode::Native),
                (AyaMode::Skb, AttachMode::Generic),
            ],
            None,
        ),
        (ModeChoice::Auto, Some(other)) => {
            let id = other.program_id;
            let reason = format!("another XDP program is attached (id {id})");
            (&[], Some(reason))
        }
    }
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
            program_id: replace_filter(filter, datapath, &interface.name, &paths)?,
            not_native: None,
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
        not_native: None,
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
