//! `tfo run` as a service: configuration, key sources, privileges and faults.

mod config;
mod faults;
mod guard;
mod guard_fitness;
mod interfaces;
mod kills;
mod limits;
mod listeners;
mod moved;
mod named;
mod namespaces;
mod own_cookies;
mod patterns;
mod policy;
mod rights;
mod running;
mod sources;
mod systemd;
