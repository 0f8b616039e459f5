//! The guard's programs on an interface: those for SYNs are tail calls of the entry program, the one for ACKs has a TCX link
//! of its own.

use aya::programs::{LinkOrder, TcAttachType};
use tfo_common::{
    abi::{CHALLENGE_INDEX, EDGE_INDEX, GUARD_INDEX},
    switches::Switches,
};

use super::joined::{Place, attach_tcx, detach_tcx, remove_callees};
use crate::{
    datapath::{error::DatapathError, object::Datapath, pins::InterfacePins},
    model::{Mirror, Settings},
};

/// Loads the programs that ports of this host take and attaches them. They look up sockets whatever the mirror.
pub(super) fn attach_guard(place: &Place<'_>) -> Result<(), DatapathError> {
    let mut datapath = load(place, true)?;
    // First: a challenged client's ACK has to be validated.
    let hook = (TcAttachType::Ingress, LinkOrder::first());
    attach_tcx(datapath.ack_mut()?, place.name, hook, &place.pins.guard())?;
    datapath.load_guard(place.mode).inspect_err(|_| {
        // Nothing is left of one that failed. The first error is the one to report.
        let _ = detach_guard(place.pins, Switches::GUARD_EDGE);
    })
}

/// Loads the programs that services behind this host take. They open no connection, and need no kfunc for it.
pub(super) fn attach_edge(place: &Place<'_>) -> Result<(), DatapathError> {
    load(place, false)?.load_edge(place.mode)
}

fn load(place: &Place<'_>, takes_acks: bool) -> Result<Datapath, DatapathError> {
    let settings = Settings {
        mirror: Mirror::Exact,
        ..place.settings
    };
    place.load(settings, takes_acks)
}

/// Detaches the programs that no rule takes any more. `armed`: the bits of [`Switches`] for the rules that remain.
pub(super) fn detach_guard(pins: &InterfacePins, armed: u32) -> Result<(), DatapathError> {
    if !pins.tail_calls().exists() {
        return Ok(());
    }
    let indexes: &[u32] = match (
        armed & Switches::GUARD_HOST != 0,
        armed & Switches::GUARD_EDGE != 0,
    ) {
        (true, true) => &[],
        (true, false) => &[EDGE_INDEX],
        (false, true) => &[GUARD_INDEX],
        (false, false) => &[GUARD_INDEX, EDGE_INDEX, CHALLENGE_INDEX],
    };
    remove_callees(pins, indexes)?;
    if armed & Switches::GUARD_HOST == 0 && pins.guard().exists() {
        detach_tcx(&pins.guard())?;
    }
    Ok(())
}
