//! The programs for own cookies on an interface: the one that translates is a tail call of the entry program, the one that
//! issues has a TCX link on egress.

use aya::programs::{LinkOrder, TcAttachType};
use tfo_common::abi::TRANSLATE_INDEX;

use super::joined::{Place, attach_tcx, detach_tcx, remove_callees};
use crate::datapath::{error::DatapathError, pins::InterfacePins};

/// Loads the programs and attaches them.
pub(super) fn attach_own(place: &Place<'_>) -> Result<(), DatapathError> {
    let mut datapath = place.load(place.settings, false)?;
    // First: what is issued has to be taken.
    datapath.load_translate(place.mode)?;
    // Last: others that translate addresses have done so.
    let hook = (TcAttachType::Egress, LinkOrder::last());
    attach_tcx(
        datapath.egress_mut()?,
        place.name,
        hook,
        &place.pins.egress(),
    )
}

/// Detaches them from an interface.
pub(super) fn detach_own(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.egress().exists() {
        return Ok(());
    }
    detach_tcx(&pins.egress())?;
    remove_callees(pins, &[TRANSLATE_INDEX])
}
