//! The programs for own cookies on an interface: the one that translates is a tail call of the entry program, the one that
//! issues is on egress, by a TCX link or a clsact filter.

use aya::programs::{LinkOrder, ProgramError, TcAttachType};
use tfo_common::abi::TRANSLATE_INDEX;

use super::{
    clsact::{attach_filter, replace_filter},
    joined::{Place, attach_tcx, detach_tcx, remove_callees},
};
use crate::{
    datapath::{
        error::DatapathError,
        pins::{ClsactFilter, InterfacePins, remove_file},
    },
    kernel::tc::Direction,
};

/// Loads the programs and attaches them.
pub(super) fn attach_own(place: &Place<'_>) -> Result<(), DatapathError> {
    let mut datapath = place.load(place.settings, false)?;
    // First: what is issued has to be taken.
    datapath.load_translate(place.mode)?;
    let program = datapath.egress_mut()?;
    let (path, sibling) = (place.pins.egress_filter(), place.pins.filter());
    if let Some(filter) = ClsactFilter::read(&path)? {
        let paths = [path.clone(), path];
        return replace_filter(filter, program, place.name, &paths).map(drop);
    }
    // Last: others that translate addresses have done so.
    let hook = (TcAttachType::Egress, LinkOrder::last());
    match attach_tcx(program, place.name, hook, &place.pins.egress()) {
        Err(DatapathError::Program(error)) if is_no_tcx(&error) => {}
        attached => return attached,
    }
    let interface = (place.pins.index, place.name);
    let attached = attach_filter(program, interface, Direction::Egress, [&path, &sibling])?;
    if attached.is_err() {
        remove_file(&path)?;
    }
    attached.map(drop).map_err(Into::into)
}

/// The kernel has no TCX.
fn is_no_tcx(error: &ProgramError) -> bool {
    matches!(
        error,
        ProgramError::SyscallError(call)
            if call.io_error.kind() == std::io::ErrorKind::InvalidInput
    )
}

/// Detaches them from an interface.
pub(super) fn detach_own(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.has_egress() {
        return Ok(());
    }
    let path = pins.egress_filter();
    if let Some(filter) = ClsactFilter::read(&path)? {
        filter.remove().map_err(DatapathError::io(&path))?;
        remove_file(&path)?;
    } else {
        detach_tcx(&pins.egress())?;
    }
    remove_callees(pins, &[TRANSLATE_INDEX])
}
