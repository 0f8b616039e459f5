//! A farm: hosts behind one address that hold the same cookie keys and rotate them together, by way of etcd.
//!
//! `phase`, `admission`, `request` and `decision` are the whole protocol, without any effect, and `simulation` explores
//! it. `agent` carries it out on each host, `leader` on the one host that etcd elected. Whoever may write to etcd is
//! not trusted: `seal` tells what a host of the farm wrote.

mod admission;
mod agent;
mod client;
mod config;
mod decision;
mod document;
mod error;
mod etcd;
mod leader;
mod membership;
mod phase;
mod quiet;
mod report;
mod request;
mod seal;
mod source;
mod state_file;

pub use admission::Refusal;
pub use client::{
    FarmClient, FarmStatus, IgnoredValue, KeyOrigin, LEADER_TIMEOUT, MemberStatus, PendingRequest,
};
pub use config::FarmConfig;
pub use document::{Document, DocumentError, DocumentHead};
pub use error::FarmError;
pub use etcd::HostRecord;
pub(crate) use membership::Membership;
pub use phase::{FarmState, OutOfSequence, Phase, Position};
pub(crate) use report::PublishedReport;
pub use report::{FarmReport, published};
pub use request::RequestKind;
pub use source::FarmSource;
pub(crate) use source::OwnCookiesTaken;
pub use state_file::StoreError;

#[cfg(test)]
mod simulation;
