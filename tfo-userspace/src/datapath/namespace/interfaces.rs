//! The interfaces of a namespace that have pins.

use std::{fs, path::Path, time::Duration};

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        object::{Build, read_build},
        pins::{InterfacePins, OtherLayout, found_maps, is_another_device, read_info},
    },
    kernel::{
        bpf::{LinkKind, LinkState, tcx_programs},
        clock,
        link::{self, Interface},
    },
    model::{AttachMode, Decap, Mirror, ModeChoice},
};

/// Tries to read links and interfaces while neither changes.
const TRIES: u32 = 5;

/// An interface that has pins.
#[derive(Clone, Debug)]
pub struct AttachedInterface {
    /// The interface's index.
    pub index: u32,
    /// `None` where the interface is gone, or moved to another network namespace.
    pub name: Option<String>,
    /// The entry program's id; 0 where it is gone.
    pub program_id: u32,
    /// `None` where the program is not attached here.
    pub mode: Option<AttachMode>,
    /// The mode that was asked for.
    pub choice: ModeChoice,
    /// The interface was moved to another network namespace, where the program still runs.
    pub moved: bool,
    /// The interface of this name is another one, which has the index of the attached one, now gone.
    pub replaced: bool,
    /// The mirror in effect.
    pub mirror: Mirror,
    /// The tunnels that are read through.
    pub decap: Decap,
    /// The build that attached it; `None` where an older build did, which pinned none.
    pub build: Option<Build>,
    /// Time since it was attached; an upgrade in place does not reset it. `None` if the pin's time cannot be read.
    pub attached: Option<Duration>,
}

impl AttachedInterface {
    /// The name, or the index where the interface is not here any more.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if self.moved => format!("interface {} (moved)", self.index),
            None => format!("interface {} (gone)", self.index),
        }
    }
}

/// The pins of an interface, and where their link is.
struct Located {
    pins: InterfacePins,
    link: Option<LinkState>,
    /// The interface of this index that is here. It need not be the link's.
    name: Option<String>,
    place: Place,
    /// True if that interface is not the one that was attached.
    replaced: bool,
}

/// The place where the program of a pinned link runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the interface of the pins' index.
    Here(AttachMode),
    /// On an interface of another namespace, or on one that came back from there with another index.
    Elsewhere,
    Nowhere,
}

impl Namespace {
    /// The interfaces that have pins, whether the program is still attached or not. By index.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where pins or interfaces cannot be read.
    pub async fn interfaces(&self) -> Result<Vec<AttachedInterface>, NamespaceError> {
        let mut attached = Vec::new();
        for located in self.locate().await? {
            let Located {
                pins, link, place, ..
            } = located;
            let moved = place == Place::Elsewhere;
            // Another process may detach meanwhile.
            let Some((settings, choice)) = found_maps(read_info(&pins.info()))? else {
                continue;
            };
            let Some(build) = found_maps(read_build(&pins.build()))? else {
                continue;
            };
            attached.push(AttachedInterface {
                index: pins.index,
                name: located.name.filter(|_| !moved),
                program_id: link.map_or(0, |link| link.program_id),
                mode: match place {
                    Place::Here(mode) => Some(mode),
                    _ => None,
                },
                choice,
                moved,
                replaced: located.replaced,
                mirror: settings.mirror,
                decap: settings.decap,
                build,
                attached: age_of_pin(&pins.info()),
            });
        }
        Ok(attached)
    }

    /// The indexes of pins whose interfaces left for another namespace. The program still runs there.
    pub(crate) async fn departed(&self) -> Result<Vec<u32>, NamespaceError> {
        let all = self.locate().await?.into_iter();
        let departed = all.filter(|it| it.place == Place::Elsewhere);
        Ok(departed.map(|it| it.pins.index).collect())
    }

    /// Finds the link of each interface's pins.
    async fn locate(&self) -> Result<Vec<Located>, NamespaceError> {
        let mut tries = TRIES;
        loop {
            let links = self.links()?;
            let present = link::list().await?;
            let find = |(pins, link): &(InterfacePins, Option<LinkState>)| {
                let interface = present.iter().find(|each| each.index == pins.index);
                let place = place(*link, interface);
                let is_another = |present| is_another_device(&pins.device(), present);
                Located {
                    pins: pins.clone(),
                    link: *link,
                    name: interface.map(|interface| interface.name.clone()),
                    place,
                    replaced: place == Place::Nowhere && interface.is_some_and(is_another),
                }
            };
            let located: Vec<_> = links.iter().map(find).collect();
            tries -= 1;
            // A program may have been replaced, or an interface deleted, between the two looks.
            let in_doubt = located.iter().any(|it| it.place == Place::Elsewhere);
            if !in_doubt || tries == 0 || same(&links, &self.links()?) {
                return Ok(located);
            }
        }
    }

    fn links(&self) -> Result<Vec<(InterfacePins, Option<LinkState>)>, DatapathError> {
        let all = self.pins().interfaces()?.into_iter();
        all.map(|pins| {
            let link = pins.link_state()?;
            Ok((pins, link))
        })
        .collect()
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

fn same<P>(before: &[(P, Option<LinkState>)], after: &[(P, Option<LinkState>)]) -> bool {
    let links = |all: &[(P, Option<LinkState>)]| all.iter().map(|it| it.1).collect::<Vec<_>>();
    links(before) == links(after)
}

fn place(link: Option<LinkState>, interface: Option<&Interface>) -> Place {
    let Some(link) = link.filter(|link| link.index != 0) else {
        return Place::Nowhere;
    };
    let mode = interface.and_then(|interface| mode_on(link, interface, Unknown::Here));
    mode.map_or(Place::Elsewhere, Place::Here)
}

/// The assumption where the kernel does not list an interface's programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The link is on the interface of its index.
    Here,
    /// It is not.
    Elsewhere,
}

/// The mode in which the program of `link` runs on `interface`; `None` where it does not. Indexes alone do not tell: each
/// namespace has its own.
pub(crate) fn mode_on(
    link: LinkState,
    interface: &Interface,
    unknown: Unknown,
) -> Option<AttachMode> {
    if link.index != interface.index {
        return None;
    }
    match link.kind {
        // It was looked up in this namespace.
        LinkKind::Clsact => Some(AttachMode::Tc),
        LinkKind::Tcx => {
            let programs = tcx_programs(interface.index);
            let is_here = programs.map_or(unknown == Unknown::Here, |programs| {
                programs.contains(&link.program_id)
            });
            is_here.then_some(AttachMode::Tc)
        }
        LinkKind::Xdp => {
            let xdp = interface.xdp?;
            (xdp.program_id == link.program_id).then_some(xdp.mode)
        }
    }
}
