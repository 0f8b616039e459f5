//! Policies on the wire: what they do to real clients, and to SYNs that no client sends; and whether the
//! kernel still counts what `tfo` counts.

mod actions;
mod decoder;
mod flood;
mod no_cookie;
mod programs;
mod swaps;
mod testbed;
mod times;
