//! The controller's library: loads and attaches the data path, reads its counters, and keeps cookie keys, policies and
//! guards in force.
//!
//! Imports run one way, down this list:
//!
//! - [`service`]: `tfo run`: a thread for each network namespace.
//! - [`config`]: the configuration file, and the flags that override it.
//! - [`metrics`]: the facts of namespaces as Prometheus metrics, over HTTP.
//! - [`doctor`]: checks of what prevents Fast Open or the data path from working.
//! - [`farm`]: hosts that rotate the same keys together, by way of etcd; a source of keys.
//! - [`keys`]: sources of cookie keys, their schedules, and the keeper that puts them in force.
//! - [`policy`]: prefix lists, and the listeners that a policy must fit.
//! - [`listeners`]: Fast Open for listeners of other processes.
//! - [`probe`]: whether Fast Open works from here to a server.
//! - [`demo`]: a client and a server in namespaces of their own, and the data path between them.
//! - [`guard`]: when ports become guarded.
//! - [`datapath`]: the programs, their maps and their pins.
//! - [`kernel`]: sysctls, counters, interfaces, namespaces, BTF.
//! - [`model`]: values that people write and maps hold, and their text.
//!
//! Functions act in the network namespace of the calling thread.

pub mod config;
pub mod datapath;
pub mod demo;
pub mod doctor;
pub mod farm;
pub mod guard;
pub mod kernel;
pub mod keys;
pub mod listeners;
pub mod metrics;
pub mod model;
pub mod policy;
pub mod probe;
pub mod service;
