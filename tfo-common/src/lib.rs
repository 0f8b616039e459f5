//! TCP Fast Open (RFC 7413) as Linux does it, in code that the kernel and the host both run.
//!
//! Everything here is `no_std`, allocates nothing and cannot panic on any packet. The eBPF program
//! calls it on live frames, the controller uses the same types to read what the program wrote, and
//! the tests hold the very same lines against the running kernel.
//!
//! The way of a packet: [`wire`] reads one frame into a [`syn::Syn`], [`classify`] holds it against
//! the [`cookie::KeySet`] and gives an [`classify::Outcome`], and [`counters`] says what that counts.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod classify;
pub mod cookie;
pub mod counters;
pub mod events;
pub mod guard;
pub mod judgement;
pub mod maps;
pub mod policy;
pub mod sizes;
pub mod socket;
pub mod sources;
pub mod syn;
pub mod wire;
