//! The programs for own cookies on an interface: the one that translates is a tail call of the entry program, the one that
//! issues has a TCX link on egress.

use std::path::Path;

use aya::programs::{LinkOrder, TcAttachType};
use tfo_common::{abi::TRANSLATE_INDEX, wire::Link};

use super::joined::{attach_tcx, detach_tcx, remove_callees};
use crate::{
    datapath::{
        error::DatapathError,
        object::Datapath,
        pins::{InterfacePins, NamespacePins},
    },
    model::{AttachMode, Settings},
};

/// Loads the programs onto the pinned maps and attaches them to the interface `name`. `tail_calls` is the mode of the entry
/// program and the pin of its array.
pub(super) fn attach_own(
    settings: Settings,
    (name, link): (&str, Link),
    namespace: &NamespacePins,
    pins: &InterfacePins,
    tail_calls: (AttachMode, &Path),
) -> Result<(), DatapathError> {
    let all = (namespace, pins);
    let datapath = &mut Datapath::load_beside(settings, link, all, tail_calls, false)?;
    // First: what is issued has to be taken.
    datapath.load_translate(tail_calls.0)?;
    // Last: others that translate addresses have done so.
    let place = (TcAttachType::Egress, LinkOrder::last());
    attach_tcx(datapath.egress_mut()?, name, place, &pins.egress())
}

/// Detaches them from an interface.
pub(super) fn detach_own(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.egress().exists() {
        return Ok(());
    }
    detach_tcx(&pins.egress())?;
    remove_callees(pins, &[TRANSLATE_INDEX])
}
