//! A trial of what attaching does with pins: a directory, a lock on it, a pin.

use std::{io, path::Path, process, thread};

use super::{
    files::{remove_dir_all, remove_file},
    lock::Lock,
    private::create_dir_all,
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
    let dir = Path::new(BPFFS).join(format!("tfo-trial{}", process::id()));
    create_dir_all(&dir).map_err(DatapathError::io(&dir))?;
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
