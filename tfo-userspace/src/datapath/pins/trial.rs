//! A trial of what attaching does with pins: a directory, a lock on it, a pin.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::Path, process, thread};

use super::{
    files::{remove_dir_all, remove_file},
    lock::Lock,
    private::check,
    value::write_value,
};
use crate::{
    datapath::error::DatapathError,
    kernel::support::{BPFFS, own_bpffs},
};

/// Makes a directory in the BPF file system, locks it, pins an array of one entry there, and removes both.
///
/// # Errors
///
/// [`DatapathError`] for the first of these that is refused.
pub fn try_pins() -> Result<(), DatapathError> {
    // Process ids are not unique: containers may share the file system.
    let mut number = [0; 8];
    getrandom::fill(&mut number)
        .map_err(|error| DatapathError::io(Path::new("getrandom(2)"))(error.into()))?;
    let dir = Path::new(BPFFS).join(format!("tfo-trial{:016x}", u64::from_ne_bytes(number)));
    // Not one that another user made.
    let made = DirBuilder::new().mode(0o700).create(&dir);
    made.map_err(DatapathError::io(&dir))?;
    check(&dir)?;
    let pin = dir.join("trial");
    let tried = Lock::try_take(&dir).and_then(|_lock| {
        write_value(&pin, "trial", process::id())?;
        remove_file(&pin)
    });
    // The first error is the one to report.
    tried.and(remove_dir_all(&dir))
}

/// Mounts a BPF file system that nobody else sees, and goes with the thread that mounts it.
///
/// # Errors
///
/// Those of unshare(2) and mount(2).
pub fn try_mount() -> io::Result<()> {
    let thread = thread::Builder::new().spawn(own_bpffs)?;
    let panicked = |_| io::Error::other("the thread panicked");
    thread.join().map_err(panicked)?
}
