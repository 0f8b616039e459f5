//! `tfo run` and the programs beside it: systemd, Prometheus, etcd. These suites need root, and what `cargo xtask
//! setup` installs.

// Hosts that share keys through etcd.
mod farm;
// What `tfo run --metrics` serves, and Prometheus.
mod metrics;
// Configuration, key sources, rights, faults, systemd.
mod service;
