//! The chores of this repository, one file each: `cargo xtask --help` lists them.
//!
//! [`toolchain`] also serves the controller's build script, which therefore gives the same answer to
//! "what is missing?" as the tasks do. Everything else here only starts other programs.

pub mod bench;
pub mod build;
pub mod ci;
pub mod command;
pub mod demo;
pub mod dist;
pub mod fuzz;
pub mod lint;
pub mod run;
pub mod setup;
mod step;
pub mod test;
pub mod toolchain;
pub mod vm;
