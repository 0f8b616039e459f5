//! Programs that join the entry program while something is in force: tail calls of it, and TCX links of their own.

use std::{fmt, path::Path};

use aya::{
    maps::{MapData, ProgramArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};

use tfo_common::wire::Link;

use super::modes::not_a_link;
use crate::{
    datapath::{
        error::DatapathError,
        namespace::AttachedInterface,
        object::Datapath,
        pins::{InterfacePins, NamespacePins, map_from_pin},
    },
    kernel::link::Interface,
    model::{AttachMode, Settings},
};

/// The program array of either mode, in errors.
const TAIL_CALLS: &str = "tail_calls";

/// An interface that cannot have such programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The interface's name.
    pub interface: String,
    /// Cause and remedy.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.interface, self.reason)
    }
}

/// All of them, for an error.
pub(super) fn listed(left_out: &[LeftOut]) -> String {
    let each: Vec<_> = left_out.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// An attached interface, for programs that join there.
pub(super) struct Place<'a> {
    pub(super) settings: Settings,
    pub(super) name: &'a str,
    pub(super) link: Link,
    pub(super) namespace: &'a NamespacePins,
    pub(super) pins: &'a InterfacePins,
    /// The mode of the entry program.
    pub(super) mode: AttachMode,
    /// The pin of its program array.
    pub(super) tail_calls: &'a Path,
}

impl Place<'_> {
    /// Loads the object onto the pinned maps. `guard`: the guard's programs are wanted.
    pub(super) fn load(&self, settings: Settings, guard: bool) -> Result<Datapath, DatapathError> {
        let pins = (self.namespace, self.pins);
        let tail_calls = (self.mode, self.tail_calls);
        Datapath::load_beside(settings, self.link, pins, tail_calls, guard)
    }
}

/// Mode, name and link layer of an interface among those `present`. The error is why no program can join there.
pub(super) fn locate<'a>(
    interface: &AttachedInterface,
    present: &'a [Interface],
) -> Result<(AttachMode, &'a str, Link), &'static str> {
    let mode = interface.mode.ok_or("tfo is no longer attached there")?;
    let found = present.iter().find(|each| each.index == interface.index);
    let found = found.ok_or("the interface is gone")?;
    match found.link {
        Ok(link) => Ok((mode, &found.name, link)),
        Err(_) => Err("its link layer is not known"),
    }
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
