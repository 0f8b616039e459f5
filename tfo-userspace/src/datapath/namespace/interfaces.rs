//! The interfaces of a namespace that have pins.

use std::{fs, path::Path, time::Duration};

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        object::{Build, read_build},
        pins::{OtherLayout, found_maps, read_settings},
    },
    kernel::{
        bpf::{LinkKind, LinkState},
        clock,
        link::{self, Interface},
    },
    model::{AttachMode, Mirror},
};

/// An interface that has pins.
#[derive(Clone, Debug)]
pub struct AttachedInterface {
    /// The interface's index.
    pub index: u32,
    /// `None` where the interface is gone.
    pub name: Option<String>,
    /// The entry program's id; 0 where it is gone.
    pub program_id: u32,
    /// `None` where the program is no longer attached.
    pub mode: Option<AttachMode>,
    /// The mirror in effect.
    pub mirror: Mirror,
    /// The build that attached it; `None` where an older build did, which pinned none.
    pub build: Option<Build>,
    /// Time since it was attached; an upgrade in place does not reset it. `None` if the pin's time cannot be read.
    pub attached: Option<Duration>,
}

impl AttachedInterface {
    /// The name, or the index where the interface is gone.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("interface {} (gone)", self.index),
        }
    }
}

impl Namespace {
    /// The interfaces that have pins, whether the program is still attached or not. By index.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where pins or interfaces cannot be read.
    pub async fn interfaces(&self) -> Result<Vec<AttachedInterface>, NamespaceError> {
        let present = link::list().await?;
        let mut attached = Vec::new();
        for pins in self.pins().interfaces()? {
            let link = pins.link_state()?;
            let interface = present.iter().find(|each| each.index == pins.index);
            let mode = link
                .zip(interface)
                .and_then(|(link, interface)| attach_mode(link, interface));
            // Another process may detach meanwhile.
            let Some(settings) = found_maps(read_settings(&pins.info()))? else {
                continue;
            };
            let Some(build) = found_maps(read_build(&pins.build()))? else {
                continue;
            };
            attached.push(AttachedInterface {
                index: pins.index,
                name: interface.map(|interface| interface.name.clone()),
                program_id: link.map_or(0, |link| link.program_id),
                mode,
                mirror: settings.mirror,
                build,
                attached: age_of_pin(&pins.info()),
            });
        }
        Ok(attached)
    }

    /// The pinned link of interface `index` is on that interface.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel does not tell.
    pub fn is_attached(&self, index: u32) -> Result<bool, DatapathError> {
        let link = self.pins().interface(index).link_state()?;
        Ok(link.is_some_and(|link| link.index == index))
    }

    /// Interfaces that other layout versions attached: the version's name, and the interface's index.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where pins cannot be listed.
    pub fn other_layouts(&self) -> Result<Vec<(String, u32)>, DatapathError> {
        let others = OtherLayout::all(self.cookie())?;
        let named = others.into_iter();
        Ok(named
            .map(|other| (other.version, other.pins.index))
            .collect())
    }
}

/// Time since a pin was made.
fn age_of_pin(path: &Path) -> Option<Duration> {
    let made = fs::metadata(path).ok()?.modified().ok()?;
    let age = made.elapsed().unwrap_or_default();
    // No pin is older than the system, even if the wall clock was set.
    Some(age.min(clock::since_boot()))
}

/// The mode in which the program of `link` runs on `interface`; `None` where it does not.
pub(crate) fn attach_mode(link: LinkState, interface: &Interface) -> Option<AttachMode> {
    if link.index != interface.index {
        return None;
    }
    match link.kind {
        LinkKind::Tcx | LinkKind::Clsact => Some(AttachMode::Tc),
        LinkKind::Xdp => interface.xdp.map(|xdp| xdp.mode),
    }
}
