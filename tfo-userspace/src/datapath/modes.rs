//! The ways in which the program can run on an interface.

use std::{io, path::Path};

use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode as AyaMode,
    links::{FdLink, LinkError, PinnedLink},
    loaded_programs,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{AttachError, Datapath, DatapathError, filter::Filter, pins::InterfacePins};
use crate::{
    kernel::link::{self, AttachedXdp, Interface},
    model::{AttachMode, ModeChoice},
};

/// A program that runs on an interface.
pub(super) struct Running {
    /// Keeps it there, until it is pinned; `None` for a filter, which stays by itself.
    pub(super) link: Option<FdLink>,
    pub(super) mode: AttachMode,
    pub(super) program_id: u32,
    /// Why it does not run in the driver, where it was to if it could.
    pub(super) not_native: Option<String>,
    /// Why it has no TCX link, where it is in traffic control.
    pub(super) not_tcx: Option<String>,
}

/// Tries the modes that `choice` allows, best first. Says why the best one did not do.
pub(super) fn attach(
    datapath: &mut Datapath,
    interface: &Interface,
    choice: ModeChoice,
    pins: &InterfacePins,
) -> Result<Running, AttachError> {
    let refused = |mode, error: &ProgramError, remedy| AttachError::Refused {
        interface: interface.name.clone(),
        mode,
        reason: kernels_word(error),
        remedy,
    };
    let mut not_native = None;
    let xdp: &[_] = match (choice, interface.xdp) {
        (ModeChoice::Native, _) => &[(AyaMode::Driver, AttachMode::Native)],
        (ModeChoice::Generic, _) => &[(AyaMode::Skb, AttachMode::Generic)],
        (ModeChoice::Tc, _) => &[],
        (ModeChoice::Auto, None) => &[
            (AyaMode::Driver, AttachMode::Native),
            (AyaMode::Skb, AttachMode::Generic),
        ],
        (ModeChoice::Auto, Some(other)) => {
            not_native = Some(format!(
                "another XDP program is there (id {})",
                other.program_id
            ));
            &[]
        }
    };
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
            return Err(refused(mode, &error, remedy));
        }
        if choice == ModeChoice::Generic {
            return Err(refused(mode, &error, ""));
        }
        not_native.get_or_insert_with(|| format!("the driver says: {}", kernels_word(&error)));
    }
    let (link, program_id, not_tcx) = match attach_tc(datapath, &interface.name)? {
        Ok((link, program_id)) => (Some(link), program_id, None),
        Err(error) => {
            let not_tcx = kernels_word(&error);
            match Filter::attach(datapath, interface, &pins.filter())? {
                Ok(program_id) => (None, program_id, Some(not_tcx)),
                Err(error) => {
                    let remedy = ": it takes TCX, which Linux has since 6.6, or a clsact filter (CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS)";
                    return Err(refused(AttachMode::Tc, &error, remedy));
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

/// Puts the program in the place of the one that the pins `from` hold on the interface, in one step: no
/// packet meets neither or both. From now on the pins `to`, which may be the same, hold it.
pub(super) fn replace(
    datapath: &mut Datapath,
    interface: &Interface,
    [from, to]: [&InterfacePins; 2],
    mode: AttachMode,
) -> Result<Running, DatapathError> {
    let paths = [from.filter(), to.filter()];
    if let Some(filter) = Filter::read(&paths[0])? {
        return Ok(Running {
            link: None,
            mode,
            program_id: filter.replace(datapath, &interface.name, &paths)?,
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
        let program = datapath.program_mut()?;
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

/// Attaches the TC program before all others of the interface, so that it sees what they see. The outer
/// error is ours, the inner one the kernel's word.
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
        .map_err(|_| ProgramError::IOError(io::Error::other("it gave no TCX link"))))
}

/// The outer error is ours, the inner one the kernel's word on this mode.
fn attach_in(
    datapath: &mut Datapath,
    index: u32,
    (attach_as, mode): (AyaMode, AttachMode),
) -> Result<Result<FdLink, ProgramError>, DatapathError> {
    let program = datapath.program_mut()?;
    let id = match program.attach_to_if_index(index, attach_as) {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    let link = program.take_link(id)?;
    Ok(FdLink::try_from(link).map_err(|_| {
        // It is attached in the old way, which cannot be pinned, and nothing takes it off by itself.
        let off = link::remove_xdp(index, mode);
        let none = "the kernel gave no XDP link";
        ProgramError::IOError(off.err().unwrap_or_else(|| io::Error::other(none)))
    }))
}

/// The kernel's own error, without the library's words around it.
fn kernels_word(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        error => error.to_string(),
    }
}

/// The error for an interface that has this program.
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

/// Pins the program that runs in that mode in the place of the one before, in one step.
pub(super) fn swap_program(
    datapath: &mut Datapath,
    mode: AttachMode,
    pins: &InterfacePins,
) -> Result<(), DatapathError> {
    let (path, next) = (pins.program(), pins.next_program());
    // Left by one that was interrupted here.
    let _ = std::fs::remove_file(&next);
    pin_program(datapath, mode, &next)?;
    std::fs::rename(&next, &path).map_err(DatapathError::io(&path))
}

/// Pins the program that runs in that mode.
pub(super) fn pin_program(
    datapath: &mut Datapath,
    mode: AttachMode,
    path: &Path,
) -> Result<(), DatapathError> {
    match mode {
        AttachMode::Tc => datapath.classifier_mut()?.pin(path),
        _ => datapath.program_mut()?.pin(path),
    }
    .map_err(DatapathError::pin(path))
}
