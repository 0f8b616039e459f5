//! The controller's library: it loads the data path and attaches it, reads what it counts, and keeps
//! the cookie keys of the data path and of the kernel in step.
//!
//! - [`datapath`]: the program, its maps, and where they are pinned.
//! - [`doctor`]: what would keep Fast Open or the data path from working, and the remedy.
//! - [`keys`]: key pairs, their text, and the order in which they change hands.
//! - [`metrics`]: all of it as Prometheus metrics, over HTTP.
//! - [`kernel`]: what the running kernel says: sysctls, counters, interfaces, abilities.
//!
//! Everything acts in the network namespace of the calling thread.

pub mod datapath;
pub mod doctor;
pub mod kernel;
pub mod keys;
pub mod metrics;
