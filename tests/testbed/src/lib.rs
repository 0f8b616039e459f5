//! What the suites, the demo and the benchmark stand on: network namespaces joined by veth, real
//! Fast Open sockets, crafted SYNs, random SYNs, the kernel's own counters, and the `tfo` command.

pub mod clients;
pub mod delay;
pub mod fuzz;
pub mod http;
pub mod kernel;
pub mod keys;
pub mod link;
pub mod netns;
pub mod packet;
pub mod policy;
pub mod poll;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod returning;
pub mod socket;
mod sockopt;
pub mod syn_table;
pub mod testbed;
pub mod tfo;
pub mod tshark;
pub mod tun;
pub mod veth;
pub mod xdp;
