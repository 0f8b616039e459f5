//! The tasks of this repository, one file or folder each: `cargo xtask --help` lists them.
//!
//! [`toolchain`] is a crate of its own, which the controller's build script uses too, so that it names the same missing
//! tools as the tasks do. Everything else here only starts other programs.

pub mod architecture;
pub mod bench;
pub mod build;
pub mod ci;
pub mod command;
pub mod counters;
pub mod demo;
pub mod deploy;
pub mod dist;
pub mod fuzz;
pub mod lint;
mod packages;
pub mod run;
pub mod setup;
pub mod site;
mod step;
pub mod test;
pub mod vm;

pub use tfo_toolchain as toolchain;
