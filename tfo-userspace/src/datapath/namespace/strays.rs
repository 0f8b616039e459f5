//! Programs on interfaces of this namespace that were attached in another one: a link survives the move of its
//! interface, and so the program went along, with the maps of the namespace that it left.

use super::{
    current::Namespace,
    error::NamespaceError,
    interfaces::{Unknown, mode_on},
};
use crate::{
    datapath::pins::PinnedElsewhere,
    kernel::{
        bpf::LinkState,
        link::{self, Interface},
    },
    model::AttachMode,
};

/// A program of `tfo` that came with its interface from another network namespace.
#[derive(Clone, Debug)]
pub struct Stray {
    /// The interface's name.
    pub interface: String,
    /// The interface's index.
    pub index: u32,
    /// The program's id.
    pub program_id: u32,
    /// The mode in which it runs.
    pub mode: AttachMode,
    pub(crate) pinned: PinnedElsewhere,
}

impl Namespace {
    /// Programs that came with their interfaces from other namespaces; by interface, each once.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where pins or interfaces cannot be listed.
    pub async fn strays(&self) -> Result<Vec<Stray>, NamespaceError> {
        let all = PinnedElsewhere::all(self.cookie())?.into_iter();
        let alive = |pinned: PinnedElsewhere| {
            let links = links(&pinned);
            (!links.is_empty()).then_some((pinned, links))
        };
        let alive: Vec<_> = all.filter_map(alive).collect();
        if alive.is_empty() {
            return Ok(Vec::new());
        }
        let present = link::list().await?;
        let mut strays: Vec<_> = alive
            .into_iter()
            .filter_map(|(pinned, links)| stray(pinned, &links, &present))
            .collect();
        strays.sort_by_key(|stray| stray.index);
        Ok(strays)
    }
}

/// The links that are attached: of the entry program, and of the guard's. One that cannot be read may be gone.
fn links(pinned: &PinnedElsewhere) -> Vec<LinkState> {
    let entry = pinned.pins.link_state().ok().flatten();
    let guard = LinkState::read(&pinned.pins.guard()).ok();
    let links = entry.into_iter().chain(guard);
    links.filter(|link| link.index != 0).collect()
}

fn stray(pinned: PinnedElsewhere, links: &[LinkState], present: &[Interface]) -> Option<Stray> {
    // No two programs have one id, so an equal index in another namespace is not mistaken for this one.
    let found = links.iter().find_map(|link| {
        let interface = present.iter().find(|each| each.index == link.index)?;
        let mode = mode_on(*link, interface, Unknown::Elsewhere)?;
        Some((interface, link.program_id, mode))
    });
    let (interface, program_id, mode) = found?;
    Some(Stray {
        interface: interface.name.clone(),
        index: interface.index,
        program_id,
        mode,
        pinned,
    })
}
