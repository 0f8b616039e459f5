//! The eBPF object: embedded bytes, constants, kfunc call, programs, the one that learns of handshakes, and the iterator over listeners.

mod build;
mod constants;
mod handshakes;
mod image;
mod kfunc;
mod listeners;
mod load;
mod programs;

pub use build::Build;
pub(super) use build::{read_build, write_build};
pub(super) use handshakes::{attach_handshakes, detach_handshakes};
pub use image::OBJECT;
pub use listeners::{BoundDevice, FastOpenState, ListenersError, ListeningSocket, listeners};
pub use load::Datapath;

use crate::kernel::types;

/// Finds what is the same for all interfaces, the kernel's types and the running build: for this process, and for those that it
/// forks from now on.
pub(crate) fn prepare() {
    types::find();
    build::find();
}
