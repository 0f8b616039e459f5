//! The TC program as a filter of the clsact qdisc, where the kernel has no TCX links (before Linux 6.6).

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};

use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{CLSACT_HANDLE, ClsactFilter},
    },
    kernel::{link::Interface, tc},
};

/// Priorities that are tried: one that a filter of another kind has cannot be shared.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=16;

/// Attaches the TC program at the lowest priority that is free, and pins its place at `path`. Gives the
/// program's id. The outer error is tfo's, the inner one the kernel's.
pub(super) fn attach_filter(
    datapath: &mut Datapath,
    interface: &Interface,
    path: &Path,
) -> Result<Result<u32, ProgramError>, DatapathError> {
    let program = datapath.classifier_mut()?;
    let program_id = program.info()?.id();
    let mut filter = ClsactFilter::planned(interface.index, program_id);
    filter.write(path)?;
    match qdisc_add_clsact(&interface.name) {
        Err(error) if is_errno(&error, libc::EEXIST) => filter.made_qdisc = 0,
        Err(error) => return Ok(Err(error.into())),
        Ok(()) => {}
    }
    let mut result = Err(ProgramError::NotLoaded);
    for priority in PRIORITIES {
        filter.priority = priority.into();
        filter.write(path)?;
        let options = TcAttachOptions::Netlink(NlOptions {
            priority,
            handle: CLSACT_HANDLE.into(),
            classid: None,
        });
        let ingress = TcAttachType::Ingress;
        match program.attach_with_options(&interface.name, ingress, options) {
            Ok(id) => {
                // Dropping it would detach it: nothing else holds it.
                std::mem::forget(program.take_link(id)?);
                return Ok(Ok(program_id));
            }
            Err(error) => result = Err(error),
        }
    }
    if filter.made_qdisc == 1 {
        let _ = tc::remove_unused_clsact(interface.index);
    }
    Ok(result)
}

/// Replaces the filter's program by the TC program, in one step, and moves its pin between these paths. Gives
/// the new program's id.
pub(super) fn replace_filter(
    mut filter: ClsactFilter,
    datapath: &mut Datapath,
    name: &str,
    [from, to]: &[PathBuf; 2],
) -> Result<u32, DatapathError> {
    let program = datapath.classifier_mut()?;
    let program_id = program.info()?.id();
    let present = filter.program().map_err(ProgramError::IOError)?;
    filter.program_id = present.unwrap_or_default();
    filter.next_program_id = program_id;
    filter.write(from)?;
    let (ingress, handle) = (TcAttachType::Ingress, TcHandle::from(CLSACT_HANDLE));
    let priority = filter.priority as u16;
    let link = SchedClassifierLink::attached(name, ingress, priority, handle, None);
    let id = program.attach_to_link(link.map_err(ProgramError::IOError)?)?;
    // Dropping it would detach it.
    std::mem::forget(program.take_link(id)?);
    filter.program_id = program_id;
    filter.next_program_id = 0;
    filter.write(to)?;
    if from != to {
        fs::remove_file(from).map_err(DatapathError::io(from))?;
    }
    Ok(program_id)
}

fn is_errno(error: &TcError, number: i32) -> bool {
    matches!(error, TcError::NetlinkError(error) if error.raw_os_error() == Some(number))
}
