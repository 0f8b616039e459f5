//! TCP Fast Open (RFC 7413) as Linux does it, in code that the kernel and the host both run.
//!
//! Everything here is `no_std`, allocates nothing and cannot panic on any packet. The eBPF program runs it on live
//! frames, the controller uses the same types to read what the program wrote, and the tests hold the very same lines
//! against the running kernel.
//!
//! A frame's path: [`wire`] parses it into a [`wire::syn::Syn`]; [`classify`] holds that against the socket and the
//! [`fastopen::KeySet`]; [`guard`] and [`policy`] decide what to do with it; [`context::SynContext`] carries all of that,
//! and [`count`] turns it into [`counters`]. [`abi`] names what the program and the controller share.
//!
//! Modules import only those before them: [`atomic`], [`rate`], [`counters`]; [`wire`]; [`fastopen`]; [`classify`];
//! [`policy`], [`guard`]; [`switches`], [`context`]; [`count`], [`abi`].

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod atomic;
pub mod classify;
pub mod context;
pub mod count;
pub mod counters;
pub mod fastopen;
pub mod guard;
mod numbered;
pub mod policy;
pub mod rate;
pub mod switches;
pub mod wire;

/// The folder of this crate's sources, for the build script that compiles them for the kernel as well.
pub const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
