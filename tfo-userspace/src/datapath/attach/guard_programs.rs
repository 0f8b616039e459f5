//! The guard's programs on an interface: those for SYNs are tail calls of the entry program, the one for ACKs has a TCX link
//! of its own.

use std::path::Path;

use aya::{
    maps::{MapData, ProgramArray},
    programs::{
        LinkOrder, TcAttachType,
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
    let datapath = &mut Datapath::load_guarded(settings, link, namespace, pins, tail_calls)?;
    // First: a challenged client's ACK has to be validated.
    let program = datapath.ack_mut()?;
    if let Ok(pinned) = PinnedLink::from_pin(pins.guard()) {
        let held = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(not_a_link)?;
        let id = program.attach_to_link(held)?;
        // The pin keeps the link.
        drop(program.take_link(id)?);
    } else {
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(name, TcAttachType::Ingress, first)?;
        let link = FdLink::try_from(program.take_link(id)?).map_err(not_a_link)?;
        let path = pins.guard();
        link.pin(&path).map_err(DatapathError::pin(&path))?;
    }
    datapath.load_guard(tail_calls.0)
}

/// Detaches the guard's programs from an interface.
pub(super) fn detach_guard(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.guard().exists() {
        return Ok(());
    }
    let map = map_from_pin(&pins.tail_calls(), TAIL_CALLS)?;
    let mut tail_calls: ProgramArray<MapData> =
        map.try_into().map_err(DatapathError::map(TAIL_CALLS))?;
    for index in [GUARD_INDEX, CHALLENGE_INDEX] {
        let _ = tail_calls.clear_index(&index);
    }
    // Closing the last reference detaches at once.
    let link = PinnedLink::from_pin(pins.guard());
    let path = pins.guard();
    std::fs::remove_file(&path).map_err(DatapathError::io(&path))?;
    drop(link);
    Ok(())
}
