//! A farm's keys in etcd. Each call changes all that it changes in one transaction, or nothing.
//!
//! | key below the prefix | holds |
//! |---|---|
//! | `document` | the farm's document |
//! | `hosts/NAME` | what a host has in force, or that it asks to be admitted |
//! | `election/LEASE` | a running host; the oldest leads |
//! | `request` | what an operator asked the leader for |
//!
//! All but the document's head is sealed where the farm has a seal. Values that no host wrote are ignored, and other
//! keys are not read.

mod error;
mod lease;
mod range;
mod snapshot;
mod store;

pub(super) use lease::LEASE_TIME;
pub(super) use snapshot::{Candidate, FarmSnapshot, Versioned};
pub(super) use store::{Preconditions, Store};
