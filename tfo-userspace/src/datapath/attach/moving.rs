//! The pins of an interface whose data path is being moved to another hook.
//!
//! While two programs are attached, the XDP program marks the packets that it meets, and the one in traffic control leaves
//! those alone. A process that is killed in between leaves both attached and the marks on, which counts right; the next
//! change of this interface tidies up.

use std::path::Path;

use tfo_common::abi::MOVING;

use crate::{
    datapath::{
        error::DatapathError,
        pins::{ClsactFilter, InterfacePins, remove_file, write_value},
    },
    kernel::bpf::OpenLink,
};

/// Switches the marks on or off.
pub(super) fn set_moving(pins: &InterfacePins, moving: bool) -> Result<(), DatapathError> {
    let path = pins.map(MOVING);
    if path.exists() {
        write_value(&path, MOVING, u32::from(moving))?;
    }
    Ok(())
}

/// Ends a move that was interrupted: the caller holds the lock.
pub(super) fn tidy_up(pins: &InterfacePins) -> Result<(), DatapathError> {
    let next = pins.next_link();
    if next.exists() {
        let link = open(&next)?;
        remove_file(&next)?;
        detach(link, &next)?;
    }
    if pins.filter().exists() && pins.link().exists() {
        remove_link(pins)?;
    }
    set_moving(pins, false)
}

/// Detaches the program that the link holds, whose successor is the clsact filter.
pub(super) fn remove_link(pins: &InterfacePins) -> Result<(), DatapathError> {
    let path = pins.link();
    let link = open(&path)?;
    remove_file(&path)?;
    remove_file(&pins.program())?;
    detach(link, &path)
}

/// Detaches the present program, whose successor's link is pinned as the next. At no time does the interface seem to be
/// without a program.
pub(super) fn replace_link(pins: &InterfacePins) -> Result<(), DatapathError> {
    let (next, link, filter) = (pins.next_link(), pins.link(), pins.filter());
    let rename = || std::fs::rename(&next, &link).map_err(DatapathError::io(&next));
    if let Some(placed) = ClsactFilter::read(&filter)? {
        rename()?;
        placed.remove().map_err(DatapathError::io(&filter))?;
        return remove_file(&filter);
    }
    let present = open(&link)?;
    rename()?;
    detach(present, &link)
}

fn open(path: &Path) -> Result<OpenLink, DatapathError> {
    OpenLink::open(path).map_err(DatapathError::io(path))
}

fn detach(link: OpenLink, path: &Path) -> Result<(), DatapathError> {
    link.detach().map_err(DatapathError::io(path))
}
