//! The pins of an interface whose data path is being moved to another hook.
//!
//! While two programs are attached, the XDP program marks the packets that it meets, and the one in traffic control leaves
//! those alone. A process that is killed in between leaves both attached and the marks on, which counts right; the next
//! change of this interface tidies up.

use std::path::Path;

use tfo_common::switches::Switches;

use crate::{
    datapath::{
        error::DatapathError,
        maps::SwitchStore,
        pins::{ClsactFilter, InterfacePins, NamespacePins, found_maps, remove_file},
    },
    kernel::bpf::OpenLink,
};

/// Switches the marks on, for all interfaces of the namespace. Only a device above one with an XDP program, such as its VLAN
/// device, notices while another moves: it leaves those SYNs to the one below, which counted them.
pub(super) fn mark(namespace: &NamespacePins) -> Result<(), DatapathError> {
    switch(namespace, Switches::MOVING)
}

/// Switches the marks off, unless a killed process left an interface between two hooks.
pub(super) fn unmark(namespace: &NamespacePins) -> Result<(), DatapathError> {
    let is_between = |pins: &InterfacePins| {
        pins.next_link().exists() || pins.filter().exists() && pins.link().exists()
    };
    if namespace.interfaces()?.iter().any(is_between) {
        return Ok(());
    }
    switch(namespace, 0)
}

fn switch(namespace: &NamespacePins, moving: u32) -> Result<(), DatapathError> {
    match found_maps(SwitchStore::open(namespace))? {
        Some(mut store) => store.change(|switches| switches.replaced(Switches::MOVING, moving)),
        None => Ok(()),
    }
}

/// Ends a move that was interrupted: the caller holds the lock.
pub(super) fn tidy_up(
    namespace: &NamespacePins,
    pins: &InterfacePins,
) -> Result<(), DatapathError> {
    let next = pins.next_link();
    if next.exists() {
        let link = open(&next)?;
        remove_file(&next)?;
        detach(link, &next)?;
    }
    if pins.filter().exists() && pins.link().exists() {
        remove_link(pins)?;
    }
    unmark(namespace)
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
