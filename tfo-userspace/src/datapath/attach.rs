//! Attaching the data path to an interface, and detaching it.

use std::{io, path::PathBuf};

use aya::{
    pin::PinError,
    programs::{
        ProgramError, XdpMode as AyaMode,
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use tfo_common::maps::OF_INTERFACE;

use super::{
    Datapath, DatapathError, Mirror, Namespace, NamespaceError, Settings, info,
    pins::{self, InterfacePins},
};
use crate::{
    kernel::{
        link::{self, AttachedXdp, Interface, XdpMode},
        support::{self, SupportError},
    },
    keys::{self, KeyPair, Sysctl},
};

/// How the program is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeChoice {
    /// In the driver if it can, else in the stack.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack.
    Generic,
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
        "{interface}: another XDP program is attached: {name} (id {program_id}, {mode}): detach it with the tool that attached it, or `ip link set dev {interface} xdp off`, then attach again"
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
    if let Some(xdp) = interface.xdp {
        return Err(occupied(&interface, xdp, pins.exists()));
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
    let mut datapath = Datapath::load_with_keys(settings, &namespace.pins().keys())?;
    #[cfg(feature = "trace")]
    datapath.forward_log().map_err(|source| DatapathError::Io {
        path: "the program's log".into(),
        source,
    })?;
    let before = datapath.keys_mut().get()?;
    let keys = keys::import(datapath.keys_mut(), &mut Sysctl).map_err(NamespaceError::from)?;
    if keys.to_set() != before {
        namespace.note_key_change()?;
    }
    let (link, mode, not_native) = attach_program(&mut datapath, interface, choice)?;
    let program_id = datapath
        .program()?
        .info()
        .map_err(DatapathError::from)?
        .id();
    pin(&mut datapath, link, pins)?;
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

/// Tries the modes that `choice` allows, best first. Says why the best one did not do.
fn attach_program(
    datapath: &mut Datapath,
    interface: &Interface,
    choice: ModeChoice,
) -> Result<(FdLink, XdpMode, Option<String>), AttachError> {
    let refused = |mode, error: &ProgramError, remedy| AttachError::Refused {
        interface: interface.name.clone(),
        mode,
        reason: kernels_word(error),
        remedy,
    };
    let native_error = if choice == ModeChoice::Generic {
        None
    } else {
        match attach_in(datapath, interface.index, AyaMode::Driver)? {
            Ok(link) => return Ok((link, XdpMode::Native, None)),
            Err(error) if choice == ModeChoice::Native => {
                let remedy = ": --mode generic works on any interface, more slowly";
                return Err(refused(XdpMode::Native, &error, remedy));
            }
            Err(error) => Some(kernels_word(&error)),
        }
    };
    match attach_in(datapath, interface.index, AyaMode::Skb)? {
        Ok(link) => Ok((link, XdpMode::Generic, native_error)),
        Err(error) => Err(refused(XdpMode::Generic, &error, "")),
    }
}

/// The outer error is ours, the inner one the kernel's word on this mode.
fn attach_in(
    datapath: &mut Datapath,
    index: u32,
    mode: AyaMode,
) -> Result<Result<FdLink, ProgramError>, DatapathError> {
    let program = datapath.program_mut()?;
    let id = match program.attach_to_if_index(index, mode) {
        Ok(id) => id,
        Err(error) => return Ok(Err(error)),
    };
    let link = program.take_link(id)?;
    // A link of the old kind cannot be pinned. It is detached again when it is dropped here.
    Ok(FdLink::try_from(link)
        .map_err(|_| ProgramError::IOError(io::Error::other("it gave no XDP link (Linux 5.9)"))))
}

/// The kernel's own error, without the library's words around it.
fn kernels_word(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        error => error.to_string(),
    }
}

/// Pins everything; the link comes last, so that pins without a link mean an unfinished attach.
fn pin(datapath: &mut Datapath, link: FdLink, pins: &InterfacePins) -> Result<(), DatapathError> {
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
    datapath.program_mut()?.pin(&path).map_err(at(path))?;
    let path = pins.link();
    link.pin(&path).map_err(at(path))?;
    Ok(())
}

fn occupied(interface: &Interface, xdp: AttachedXdp, ours: bool) -> AttachError {
    let AttachedXdp { program_id, mode } = xdp;
    let interface = interface.name.clone();
    let name = program_name(program_id);
    if ours {
        return AttachError::Twice {
            interface,
            program_id,
            mode,
        };
    }
    AttachError::Occupied {
        interface,
        name,
        program_id,
        mode,
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
