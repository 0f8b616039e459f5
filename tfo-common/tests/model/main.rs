//! tfo-common against a second implementation of the kernel's rules: slow, on vectors and slices, and structured
//! differently, so that both do not share a bug.

mod classify;
mod frames;
mod generate;
mod naive;
mod options;
mod tunnels;
