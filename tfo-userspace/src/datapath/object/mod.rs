//! The eBPF object: embedded bytes, constants, kfunc call, programs, and the iterator over listeners.

mod build;
mod constants;
mod image;
mod kfunc;
mod listeners;
mod load;
mod programs;

pub use build::Build;
pub(super) use build::{read_build, write_build};
pub use image::OBJECT;
pub use listeners::{BoundDevice, FastOpenState, ListenersError, ListeningSocket, listeners};
pub use load::Datapath;
