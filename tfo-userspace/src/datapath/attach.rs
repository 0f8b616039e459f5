//! Attaching the data path to an interface, and detaching it.

use std::path::PathBuf;

use aya::{
    pin::PinError,
    programs::{links::PinnedLink, loaded_programs},
};
use tfo_common::maps::OF_INTERFACE;

use super::{
    Datapath, DatapathError, Mirror, Namespace, NamespaceError, Settings, info,
    modes::{self, Running},
    pins::{self, InterfacePins},
};
use crate::{
    kernel::{
        link::{self, AttachedXdp, Interface, XdpMode},
        support::{self, SupportError},
    },
    keys::KeyPair,
};

/// How the program is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeChoice {
    /// In the driver if it can, else in the stack, else in traffic control.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack.
    Generic,
    /// In traffic control, beside any other programs.
    Tc,
}

/// What came of attaching.
#[derive(Debug)]
pub struct Attached {
    /// How the program runs.
    pub mode: XdpMode,
    /// Why it does not run in the driver, where it was to if it could.
    pub not_native: Option<String>,
    /// How closely it follows the kernel.
    pub mirror: Mirror,
    /// Why it follows less closely than it was to.
    pub not_exact: Option<String>,
    /// Its id.
    pub program_id: u32,
    /// The keys in force.
    pub keys: KeyPair,
}

/// Why an interface was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel or the process lacks something.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// Reading or changing the namespace's state.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It is attached already.
    #[error(
        "{interface}: tfo is attached already (program {program_id}, {mode}): `tfo status` shows it, `tfo detach {interface}` removes it"
    )]
    Twice {
        /// The interface.
        interface: String,
        /// Our program there.
        program_id: u32,
        /// How it runs.
        mode: XdpMode,
    },
    /// Someone else's program is there.
    #[error(
        "{interface}: another XDP program is attached: {name} (id {program_id}, {mode}): detach it with the tool that attached it, or `ip link set dev {interface} xdp off`, then attach again; or --mode tc runs beside it"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program's name.
        name: String,
        /// The program's id.
        program_id: u32,
        /// How it runs.
        mode: XdpMode,
    },
    /// Its frames start with something that is not read.
    #[error(
        "{interface}: its frames start with neither Ethernet nor IP (link layer {layer}), and tfo reads no others: attach to an interface that this one's packets go through"
    )]
    LinkLayer {
        /// The interface.
        interface: String,
        /// What the kernel calls its link layer.
        layer: String,
    },
    /// Another version's pins are there.
    #[error("{path} was made by a tfo of another layout version, whose program may still be attached: run its `tfo detach --all`, or remove {path} (rm -r), then attach again", path = path.display())]
    OtherVersion {
        /// Their directory.
        path: PathBuf,
    },
    /// No mode worked.
    #[error("{interface}: the kernel refused to attach in {mode} mode: {reason}{remedy}")]
    Refused {
        /// The interface.
        interface: String,
        /// The mode.
        mode: XdpMode,
        /// The kernel's word.
        reason: String,
        /// What to try.
        remedy: &'static str,
    },
    /// Nothing to detach.
    #[error("{interface}: tfo is not attached here: `tfo status` shows where it is")]
    NotAttached {
        /// The interface.
        interface: String,
    },
}

impl From<DatapathError> for AttachError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// Attaches the data path to the interface of that name in the calling thread's namespace, with the
/// keys that the kernel has; where it has none, both get a random one. Program, link and maps are
/// pinned: they stay when the process ends.
///
/// # Errors
///
/// [`AttachError`]; what was made on the way is then removed again.
pub async fn attach(
    namespace: &Namespace,
    name: &str,
    choice: ModeChoice,
    settings: Settings,
) -> Result<Attached, AttachError> {
    support::check()?;
    if let Some(path) = pins::other_versions()?.pop() {
        return Err(AttachError::OtherVersion { path });
    }
    let interface = link::find(name).await.map_err(NamespaceError::from)?;
    let pins = namespace.pins().interface(interface.index);
    let attached = namespace.interfaces().await?;
    let ours = attached.iter().find(|each| each.index == interface.index);
    if let Some((ours, mode)) = ours.and_then(|ours| Some((ours, ours.mode?))) {
        return Err(AttachError::Twice {
            interface: interface.name,
            program_id: ours.program_id,
            mode,
        });
    }
    if let Some(xdp) = interface.xdp
        && matches!(choice, ModeChoice::Native | ModeChoice::Generic)
    {
        return Err(occupied(&interface, xdp));
    }
    namespace.pins().create()?;
    let _lock = namespace.pins().lock()?;
    // What is left of a program that someone else detached.
    pins.remove()?;
    match attach_locked(namespace, &interface, &pins, choice, settings) {
        Ok(attached) => Ok(attached),
        Err(error) => {
            // The error that counts is the first one.
            let _ = pins.remove();
            let _ = namespace.pins().remove_if_unused();
            Err(error)
        }
    }
}

fn attach_locked(
    namespace: &Namespace,
    interface: &Interface,
    pins: &InterfacePins,
    choice: ModeChoice,
    settings: Settings,
) -> Result<Attached, AttachError> {
    let link = interface.link.clone();
    let link = link.map_err(|layer| AttachError::LinkLayer {
        interface: interface.name.clone(),
        layer,
    })?;
    let mut datapath = Datapath::load_with_keys(settings, link, &namespace.pins().keys())?;
    #[cfg(feature = "trace")]
    datapath.forward_log().map_err(|source| DatapathError::Io {
        path: "the program's log".into(),
        source,
    })?;
    let keys = namespace.take_kernel_keys(datapath.keys_mut())?;
    let running = modes::attach(&mut datapath, interface, choice)?;
    let (mode, program_id) = (running.mode, running.program_id);
    let not_native = running.not_native.clone();
    pin(&mut datapath, running, pins)?;
    namespace.rebase()?;
    Ok(Attached {
        mode,
        not_native,
        mirror: datapath.settings().mirror,
        not_exact: datapath.not_exact().map(str::to_owned),
        program_id,
        keys,
    })
}

/// Pins everything; the link comes last, so that pins without a link mean an unfinished attach.
fn pin(
    datapath: &mut Datapath,
    running: Running,
    pins: &InterfacePins,
) -> Result<(), DatapathError> {
    pins.create()?;
    let at = |path: PathBuf| {
        move |source: PinError| DatapathError::Pin {
            path,
            source: Box::new(source),
        }
    };
    for name in OF_INTERFACE {
        let path = pins.map(name);
        datapath.map(name)?.pin(&path).map_err(at(path))?;
    }
    info::write(&pins.info(), datapath.settings())?;
    let path = pins.program();
    match running.mode {
        XdpMode::Tc => datapath.classifier_mut()?.pin(&path),
        _ => datapath.program_mut()?.pin(&path),
    }
    .map_err(at(path))?;
    let path = pins.link();
    running.link.pin(&path).map_err(at(path))?;
    Ok(())
}

pub(super) fn occupied(interface: &Interface, xdp: AttachedXdp) -> AttachError {
    AttachError::Occupied {
        interface: interface.name.clone(),
        name: program_name(xdp.program_id),
        program_id: xdp.program_id,
        mode: xdp.mode,
    }
}

fn program_name(id: u32) -> String {
    loaded_programs()
        .flatten()
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "unnamed".to_owned())
}

/// Detaches the data path from an interface, by index, and removes its pins and counts. With the last
/// interface of a namespace go the data path's keys; the kernel keeps its own.
///
/// # Errors
///
/// [`AttachError::NotAttached`], or where a pin cannot be removed.
pub fn detach(namespace: &Namespace, index: u32, name: &str) -> Result<(), AttachError> {
    let pins = namespace.pins().interface(index);
    if !pins.exists() {
        return Err(AttachError::NotAttached {
            interface: name.to_owned(),
        });
    }
    let _lock = namespace.pins().lock()?;
    if let Ok(link) = PinnedLink::from_pin(pins.link()) {
        // Dropping the last reference detaches at once; removing the pin alone would do so later.
        let unpinned = link.unpin().map_err(|source| DatapathError::Io {
            path: pins.link(),
            source,
        })?;
        drop(unpinned);
    }
    pins.remove()?;
    namespace.pins().remove_if_unused()?;
    if namespace.pins().exists() {
        namespace.rebase()?;
    }
    Ok(())
}
