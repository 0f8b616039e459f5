//! Programs as filters of the clsact qdisc, where the kernel has no TCX links (before Linux 6.6).

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};

use crate::{
    datapath::{
        error::DatapathError,
        pins::{CLSACT_HANDLE, ClsactFilter},
    },
    kernel::tc::{self, Direction},
};

/// Priorities that are tried: one that a filter of another kind has cannot be shared. Low ones come first.
const fn priorities(direction: Direction) -> RangeInclusive<u16> {
    match direction {
        Direction::Ingress => 1..=16,
        // Others that translate addresses have done so.
        Direction::Egress => 65_520..=65_535,
    }
}

const fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// Attaches the program at the lowest priority that is free, and pins its place at `path`. `sibling` is the place of the
/// filter in the other direction, whose qdisc may be tfo's. Gives the program's id. The outer error is tfo's, the inner one
/// the kernel's.
pub(super) fn attach_filter(
    program: &mut SchedClassifier,
    (index, name): (u32, &str),
    direction: Direction,
    [path, sibling]: [&Path; 2],
) -> Result<Result<u32, ProgramError>, DatapathError> {
    let program_id = program.info()?.id();
    let mut filter = ClsactFilter::planned(index, program_id, direction);
    filter.write(path)?;
    match qdisc_add_clsact(name) {
        Err(error) if is_errno(&error, libc::EEXIST) => {
            let sibling = ClsactFilter::read(sibling)?;
            filter.made_qdisc = sibling.map_or(0, |sibling| sibling.made_qdisc);
        }
        Err(error) => return Ok(Err(error.into())),
        Ok(()) => {}
    }
    let mut result = Err(ProgramError::NotLoaded);
    for priority in priorities(direction) {
        filter.priority = priority.into();
        filter.write(path)?;
        let options = TcAttachOptions::Netlink(NlOptions {
            priority,
            handle: CLSACT_HANDLE.into(),
            classid: None,
        });
        match program.attach_with_options(name, attach_type(direction), options) {
            Ok(id) => {
                // Dropping it would detach it: nothing else holds it.
                std::mem::forget(program.take_link(id)?);
                return Ok(Ok(program_id));
            }
            Err(error) => result = Err(error),
        }
    }
    if filter.made_qdisc == 1 {
        let _ = tc::remove_unused_clsact(index);
    }
    Ok(result)
}

/// Replaces the filter's program, in one step, and moves its pin between these paths. Gives the new program's id.
pub(super) fn replace_filter(
    mut filter: ClsactFilter,
    program: &mut SchedClassifier,
    name: &str,
    [from, to]: &[PathBuf; 2],
) -> Result<u32, DatapathError> {
    let program_id = program.info()?.id();
    let present = filter.program().map_err(ProgramError::IOError)?;
    filter.program_id = present.unwrap_or_default();
    filter.next_program_id = program_id;
    filter.write(from)?;
    let (attached, handle) = (
        attach_type(filter.direction()),
        TcHandle::from(CLSACT_HANDLE),
    );
    let priority = filter.priority as u16;
    let link = SchedClassifierLink::attached(name, attached, priority, handle, None);
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
