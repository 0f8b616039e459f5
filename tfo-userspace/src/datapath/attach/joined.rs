//! Programs that join the entry program while something is in force: tail calls of it, and TCX links of their own.

use std::path::Path;

use aya::{
    maps::{MapData, ProgramArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};

use super::modes::not_a_link;
use crate::datapath::{
    error::DatapathError,
    pins::{InterfacePins, map_from_pin},
};

/// The program array of either mode, in errors.
const TAIL_CALLS: &str = "tail_calls";

/// Attaches `program` to the interface `name` by a TCX link pinned at `pin`, or puts it into the link that is pinned there.
pub(super) fn attach_tcx(
    program: &mut SchedClassifier,
    name: &str,
    (direction, order): (TcAttachType, LinkOrder),
    pin: &Path,
) -> Result<(), DatapathError> {
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let held = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(not_a_link)?;
        let id = program.attach_to_link(held)?;
        // The pin keeps the link.
        drop(program.take_link(id)?);
        return Ok(());
    }
    let order = TcAttachOptions::TcxOrder(order);
    let id = program.attach_with_options(name, direction, order)?;
    let link = FdLink::try_from(program.take_link(id)?).map_err(not_a_link)?;
    link.pin(pin).map_err(DatapathError::pin(pin))?;
    Ok(())
}

/// Takes programs out of the pinned program array: the entry program goes on without them.
pub(super) fn remove_callees(pins: &InterfacePins, indexes: &[u32]) -> Result<(), DatapathError> {
    let map = map_from_pin(&pins.tail_calls(), TAIL_CALLS)?;
    let mut tail_calls: ProgramArray<MapData> =
        map.try_into().map_err(DatapathError::map(TAIL_CALLS))?;
    for index in indexes {
        let _ = tail_calls.clear_index(index);
    }
    Ok(())
}

/// Removes a pinned TCX link. Closing the last reference detaches at once.
pub(super) fn detach_tcx(pin: &Path) -> Result<(), DatapathError> {
    let link = PinnedLink::from_pin(pin);
    std::fs::remove_file(pin).map_err(DatapathError::io(pin))?;
    drop(link);
    Ok(())
}
