//! What the running kernel says and takes: one file per interface of it.

pub mod bpf;
pub mod clock;
pub mod ethtool;
pub mod link;
mod netlink;
pub mod netns;
pub mod netstat;
pub mod support;
pub mod sysctl;
pub mod tc;
pub mod types;
pub mod window;
pub mod xdp_features;
