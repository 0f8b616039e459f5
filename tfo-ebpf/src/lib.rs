//! The folders of the eBPF programs' sources, for the build script that compiles them.

#![no_std]

/// The folder of this package.
pub const PROGRAM: &str = env!("CARGO_MANIFEST_DIR");
/// The folder of `tfo-common`.
pub const COMMON: &str = tfo_common::FOLDER;
