//! A farm: hosts behind one address that hold the same cookie keys and rotate them together, by way of etcd.
//!
//! `phase` is the whole protocol, without any effect, and `simulation` explores it. `agent` carries it out on each
//! host, `leader` on the one host that etcd elected.

mod agent;
mod client;
mod config;
mod document;
mod error;
mod etcd;
mod leader;
mod membership;
mod phase;
mod report;
mod source;
mod state_file;

pub use client::{FarmClient, FarmStatus, KeyOrigin, LEADER_TIMEOUT, MemberStatus};
pub use config::FarmConfig;
pub use document::{Document, DocumentError, DocumentHead};
pub use error::FarmError;
pub use etcd::{HostRecord, Request};
pub(crate) use membership::Membership;
pub use phase::{FarmState, OutOfSequence, Phase, Position};
pub(crate) use report::PublishedReport;
pub use report::{FarmReport, published};
pub use source::FarmSource;
pub use state_file::StoreError;

#[cfg(test)]
mod simulation;
