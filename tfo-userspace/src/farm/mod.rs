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
mod guard_record;
mod host_record;
mod leader;
mod membership;
mod pause;
mod peers;
mod phase;
mod quiet;
mod report;
mod request;
mod seal;
mod source;
mod state_file;
mod terms;
mod verdict;

pub use admission::Refusal;
pub use client::{
    FarmClient, FarmStatus, IgnoredValue, KeyOrigin, LEADER_TIMEOUT, MemberStatus, PendingRequest,
};
pub use config::FarmConfig;
pub use document::{Document, DocumentError, DocumentHead};
pub use error::FarmError;
pub(crate) use guard_record::host_options;
pub use guard_record::{GuardRecord, Guards, HandshakeOption};
pub use host_record::HostRecord;
pub(crate) use membership::Membership;
pub use phase::{FarmState, OutOfSequence, Phase, Position};
pub(crate) use quiet::Quiet;
pub(crate) use report::PublishedReport;
pub use report::{FarmReport, published};
pub use request::RequestKind;
pub use source::FarmSource;
pub(crate) use source::OwnCookiesTaken;
pub use state_file::StoreError;
pub(crate) use terms::{Terms, meet};
pub(crate) use verdict::clock_is_off;
pub use verdict::{Cause, Verdict, judge};

#[cfg(test)]
mod simulation;
