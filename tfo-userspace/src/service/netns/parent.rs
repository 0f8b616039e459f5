//! The tie of a process to the one that made it.

use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Has the calling process end with the one that made it, whose id is `parent`.
pub(super) fn die_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It ended before that.
    if u32::try_from(Pid::as_raw(getppid())) == Ok(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}
