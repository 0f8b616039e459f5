//! `tfo run` with systemd, Prometheus and etcd. These suites need root and the tools that `cargo xtask setup`
//! installs.

// Farms: hosts that share keys through etcd.
mod farm;
// `tfo run --metrics`: values, HTTP clients, and Prometheus's queries.
mod metrics;
// `tfo run` as a service: configuration, key sources, privileges, faults, systemd.
mod service;
