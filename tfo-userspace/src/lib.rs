//! The controller's library: it loads the data path and attaches it, reads what it counts, and keeps
//! the cookie keys of the data path and of the kernel in step.
//!
//! - [`config`]: what the service is to do: its file, and the flags that win over it.
//! - [`datapath`]: the program, its maps, and where they are pinned.
//! - [`doctor`]: what would keep Fast Open or the data path from working, and the remedy.
//! - [`keys`]: key pairs, their text, and the order in which they change hands.
//! - [`metrics`]: all of it as Prometheus metrics, over HTTP.
//! - [`policy`]: what is done to SYNs, as an operator says it.
//! - [`service`]: `tfo run`: network namespaces looked after, each by a thread of its own.
//! - [`kernel`]: what the running kernel says: sysctls, counters, interfaces, abilities.
//!
//! Everything acts in the network namespace of the calling thread.

pub mod config;
pub mod datapath;
pub mod doctor;
pub mod farm;
pub mod guard;
pub mod kernel;
pub mod keys;
pub mod metrics;
pub mod model;
pub mod policy;
pub mod service;
