//! What the running kernel says and takes: one file per interface of it.

pub mod clock;
pub mod link;
pub mod netns;
pub mod netstat;
pub mod support;
pub mod sysctl;
pub mod types;
