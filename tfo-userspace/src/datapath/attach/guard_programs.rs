//! The guard's programs on an interface: those for SYNs are tail calls of the entry program, the one for ACKs has a TCX link
//! of its own.

use std::path::Path;

use aya::programs::{LinkOrder, TcAttachType};
use tfo_common::{
    abi::{CHALLENGE_INDEX, GUARD_INDEX},
    wire::Link,
};

use super::joined::{attach_tcx, detach_tcx, remove_callees};
use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{InterfacePins, NamespacePins},
    },
    model::{AttachMode, Mirror, Settings},
};

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

/// Detaches the guard's programs from an interface.
pub(super) fn detach_guard(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.guard().exists() {
        return Ok(());
    }
    remove_callees(pins, &[GUARD_INDEX, CHALLENGE_INDEX])?;
    detach_tcx(&pins.guard())
}
