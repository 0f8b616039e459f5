//! The guard's programs on an interface: those for SYNs are tail calls of the entry program, the one for ACKs has a TCX link
//! of its own.

use std::path::Path;

use aya::{
    maps::{MapData, ProgramArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use tfo_common::{
    abi::{CHALLENGE_INDEX, GUARD_INDEX},
    wire::Link,
};

use super::modes::not_a_link;
use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{InterfacePins, NamespacePins, map_from_pin},
    },
    model::{AttachMode, Mirror, Settings},
};

/// The program array of either mode, in errors.
const TAIL_CALLS: &str = "tail_calls";

/// Loads the guard's programs onto the pinned maps and attaches them to the interface `name`. `tail_calls` is the mode of the
/// entry program and the pin of its array. They look up sockets whatever the mirror.
pub(super) fn attach_guard(
    settings: Settings,
    (name, link): (&str, Link),
    namespace: &NamespacePins,
    pins: &InterfacePins,
    tail_calls: (AttachMode, &Path),
) -> Result<(), DatapathError> {
    let settings = Settings {
        mirror: Mirror::Exact,
        ..settings
    };
    let all = (namespace, pins);
    let datapath = &mut Datapath::load_beside(settings, link, all, tail_calls, true)?;
    // First: a challenged client's ACK has to be validated.
    let place = (TcAttachType::Ingress, LinkOrder::first());
    attach_tcx(datapath.ack_mut()?, name, place, &pins.guard())?;
    datapath.load_guard(tail_calls.0)
}

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

/// Detaches the guard's programs from an interface.
pub(super) fn detach_guard(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.guard().exists() {
        return Ok(());
    }
    remove_callees(pins, &[GUARD_INDEX, CHALLENGE_INDEX])?;
    detach_tcx(&pins.guard())
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
