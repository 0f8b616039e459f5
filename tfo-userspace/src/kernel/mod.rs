//! What the running kernel says and takes: one file per interface of it.

pub mod bpf;
pub mod link;
pub mod netns;
pub mod netstat;
pub mod support;
pub mod sysctl;
pub mod tc;
pub mod types;
