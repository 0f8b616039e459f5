//! `tfo run` as a service: its configuration, where its keys come from, what it may do, and what it makes
//! of faults.

mod config;
mod faults;
mod guard;
mod interfaces;
mod kills;
mod namespaces;
mod policy;
mod rights;
mod running;
mod sources;
mod systemd;
