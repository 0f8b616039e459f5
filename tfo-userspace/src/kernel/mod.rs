//! Interfaces of the running kernel that neither aya nor rustix covers: sysctls, procfs, netlink, netfilter,
//! BTF, ioctls.

pub mod borrowed_socket;
pub mod bpf;
pub mod client_socket;
pub mod clock;
pub mod device;
pub mod ethtool;
pub mod fast_open;
pub mod holders;
pub mod link;
pub mod locks;
pub mod native_xdp;
pub mod netfilter;
mod netlink;
pub mod netns;
pub mod netstat;
pub(crate) mod once;
pub mod packet_socket;
pub mod raw_socket;
pub mod refusal;
pub mod regular_file;
pub mod routes;
pub mod sock_diag;
pub mod support;
pub mod sysctl;
pub mod sysctl_file;
pub mod tc;
pub mod types;
pub mod veth;
pub mod window;
pub mod xdp_features;
