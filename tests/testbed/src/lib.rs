//! Testbed of the suites and the benchmark: network namespaces joined by veth, kernel sockets with TCP Fast Open, crafted
//! and random SYNs, the kernel's counters, and the `tfo` command.

pub mod answering;
mod barrier;
pub mod clients;
pub mod delay;
pub mod directory;
pub mod fuzz;
pub mod guest;
pub mod http;
pub mod kernel;
pub mod keys;
pub mod link;
pub mod netns;
pub mod own_cookies;
pub mod packet;
pub mod pins;
pub mod policy;
pub mod poll;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod returning;
pub mod seed;
pub mod socket;
mod sockopt;
pub mod syn_table;
pub mod testbed;
pub mod tfo;
pub mod tshark;
pub mod tun;
pub mod tunnel;
pub mod veth;
pub mod xdp;
