//! Errors of loading, reading and writing the data path.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use tfo_common::abi::TC_ACK;

use crate::kernel::{refusal, support::BPFFS};

/// The data path could not be loaded, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel refused the object.
    #[error("the kernel refused the data path{}", why(.0))]
    Load(#[source] Box<aya::EbpfError>),
    /// The kernel lacks the kfunc by which the guard opens connections.
    #[error("this kernel cannot open connections for the guard: {0}")]
    NoKfunc(String),
    /// The kernel's sockets cannot be read, so no handshake teaches anything.
    #[error("this kernel cannot have cookies withheld: {0}")]
    NoHandshakes(String),
    /// The object has this many placeholders for the kfunc call.
    #[error(
        "{TC_ACK} has {0} kfunc calls to patch instead of 1: the object and the controller are of different builds"
    )]
    Placeholder(usize),
    /// The kernel's verifier refused the program, or it could not be attached.
    #[error("the kernel refused the program{}", why(.0))]
    Program(#[source] Box<aya::programs::ProgramError>),
    /// A map could not be read or written.
    #[error("map {name}: {source}{}", of_bpf(source).unwrap_or_default())]
    Map {
        /// The map's name.
        name: &'static str,
        /// The kernel's error.
        source: Box<aya::maps::MapError>,
    },
    /// The object has no such map or program.
    #[error(
        "{0} is missing from the data path: the object and the controller are of different builds"
    )]
    Missing(&'static str),
    /// Something could not be pinned.
    #[error("cannot pin {path}: {source}{}", of_pin(source), path = path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// The kernel's error.
        source: Box<aya::pin::PinError>,
    },
    /// A file or directory could not be made, read or removed.
    #[error("{path}: {source}{}", remedy(&source.to_string()), path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// flock(2) on a directory of pins is refused.
    #[error("{path}: cannot lock it: {source}: {}", refusal::of_flock(source, BPFFS), path = path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("getrandom(2): {0}")]
    Random(getrandom::Error),
    /// Another user can change what is pinned.
    #[error(transparent)]
    Unsafe(#[from] UnsafePins),
    /// Another process has held a lock for too long.
    #[error(
        "{path}: locked: {holder} has held the lock for {seconds} s: end that process, or try again when it is done",
        path = path.display()
    )]
    Locked {
        /// The locked directory.
        path: PathBuf,
        /// The process.
        holder: String,
        /// Time for which it was waited for.
        seconds: u64,
    },
}

/// Cause and remedy where an error comes from a refusal of bpf(2).
fn of_bpf(error: &(dyn Error + 'static)) -> Option<String> {
    // Not EACCES, which is the verifier's.
    let refused = [
        Errno::PERM,
        Errno::NOSYS,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
    ];
    let refused = refused.map(Errno::raw_os_error);
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.raw_os_error().is_some_and(|it| refused.contains(&it))
        {
            return Some(format!(": {}", refusal::of_bpf(error)));
        }
        next = error.source();
    }
    None
}

/// As [`of_bpf`]; else where to read more.
fn why(error: &(dyn Error + 'static)) -> String {
    of_bpf(error).unwrap_or_else(|| " (-v shows why)".to_owned())
}

/// As [`of_bpf`]; else the kernel's error, which aya does not show, with its remedy.
fn of_pin(error: &(dyn Error + 'static)) -> String {
    of_bpf(error).unwrap_or_else(|| {
        let root = error.source().map(ToString::to_string);
        root.map_or_else(String::new, |root| format!(": {root}{}", remedy(&root)))
    })
}

/// Another user can change what is pinned in a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}: {remedy}", path = path.display())]
pub struct UnsafePins {
    /// The directory.
    pub path: PathBuf,
    /// Why it is not safe.
    pub cause: String,
    /// Commands that make it so.
    pub remedy: String,
}

/// The remedy of an error of the BPF file system, by its text; empty where there is none.
fn remedy(error: &str) -> String {
    let is = |errno: Errno| error.contains(&format!("(os error {})", errno.raw_os_error()));
    if is(Errno::ROFS) {
        format!(": it is mounted read-only: `mount -o remount,rw {BPFFS}`")
    } else if is(Errno::PERM) || is(Errno::ACCESS) {
        ": a seccomp filter, a security module or another user's ownership forbids it: run tfo as root, outside of the confinement".to_owned()
    } else if is(Errno::MFILE) || is(Errno::NFILE) {
        format!(": {}", refusal::of_files())
    } else if is(Errno::NOSPC) || is(Errno::NOMEM) {
        ": free memory, or raise the memory limit of the unit or of the container".to_owned()
    } else {
        String::new()
    }
}

impl DatapathError {
    /// A [`DatapathError::Map`] for the map of that name.
    pub(super) fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            name,
            source: Box::new(source),
        }
    }

    /// The error is that a map is not pinned.
    pub(super) fn is_absence(&self) -> bool {
        let Self::Map { source, .. } = self else {
            return false;
        };
        matches!(&**source, aya::maps::MapError::SyscallError(call) if call.io_error.kind() == std::io::ErrorKind::NotFound)
    }

    /// A [`DatapathError::Pin`] at `path`.
    pub(super) fn pin(path: &Path) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |source| Self::Pin {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

    /// A [`DatapathError::Io`] at `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<aya::programs::ProgramError> for DatapathError {
    fn from(error: aya::programs::ProgramError) -> Self {
        Self::Program(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_bpf_is_told_with_its_cause() {
        let load = |errno: Errno| {
            let io_error = errno.into();
            let error = aya::maps::MapError::CreateError {
                name: "keys".into(),
                io_error,
            };
            DatapathError::Load(Box::new(aya::EbpfError::MapError(error))).to_string()
        };
        let refused = load(Errno::PERM);
        assert!(
            refused.starts_with("the kernel refused the data path: bpf(2) is refused"),
            "{refused}"
        );
        let other = load(Errno::ACCESS);
        assert_eq!(other, "the kernel refused the data path (-v shows why)");
    }

    #[test]
    fn errors_of_the_file_system_have_remedies() {
        let told = |errno: Errno| DatapathError::io(Path::new("/pin"))(errno.into()).to_string();
        assert!(told(Errno::ROFS).contains("remount,rw"));
        assert!(told(Errno::PERM).contains("seccomp"));
        assert!(told(Errno::MFILE).contains("ulimit -n"));
        assert!(told(Errno::NOENT).ends_with("(os error 2)"));
    }
}
