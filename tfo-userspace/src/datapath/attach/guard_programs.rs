//! The guard's programs on an interface: those for SYNs are tail calls of the entry program, the one for ACKs has a TCX link
//! of its own.

use aya::programs::{LinkOrder, TcAttachType};
use tfo_common::abi::{CHALLENGE_INDEX, GUARD_INDEX};

use super::joined::{Place, attach_tcx, detach_tcx, remove_callees};
use crate::{
    datapath::{error::DatapathError, pins::InterfacePins},
    model::{Mirror, Settings},
};

/// Loads the guard's programs and attaches them. They look up sockets whatever the mirror.
pub(super) fn attach_guard(place: &Place<'_>) -> Result<(), DatapathError> {
    let settings = Settings {
        mirror: Mirror::Exact,
        ..place.settings
    };
    let mut datapath = place.load(settings, true)?;
    // First: a challenged client's ACK has to be validated.
    let hook = (TcAttachType::Ingress, LinkOrder::first());
    attach_tcx(datapath.ack_mut()?, place.name, hook, &place.pins.guard())?;
    datapath.load_guard(place.mode)
}

/// Detaches the guard's programs from an interface.
pub(super) fn detach_guard(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.guard().exists() {
        return Ok(());
    }
    remove_callees(pins, &[GUARD_INDEX, CHALLENGE_INDEX])?;
    detach_tcx(&pins.guard())
}
