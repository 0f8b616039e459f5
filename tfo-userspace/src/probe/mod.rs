//! `tfo probe`: whether Fast Open works from this host to a server, and what is in the way.
//!
//! Kernel sockets show what a program of this host would get. Raw SYNs, which take `CAP_NET_RAW`, show why.

mod judge;
mod path;
mod prober;
mod run;
mod segment;
mod syns;

pub use judge::{ProbeFinding, ProbeVerdict, judge};
pub use path::Hop;
pub use run::{Probe, ProbeError};
pub use segment::Quoted;
pub use syns::{Heard, Syns};
