//! Policies on live connections and crafted SYNs: effects on clients, and equal counters of `tfo` and the kernel.

mod actions;
mod decoder;
mod early_data;
mod flood;
mod no_cookie;
mod once;
mod programs;
mod swaps;
mod testbed;
mod times;
mod withhold;
