//! A farm's keys in etcd. Each call changes all that it changes in one transaction, or nothing.
//!
//! | key below the prefix | holds |
//! |---|---|
//! | `document` | the farm's document |
//! | `hosts/NAME` | what a member has in force; rotations wait for it |
//! | `left/NAME` | what a host had in force that a rotation left behind |
//! | `election/LEASE` | a running host; the oldest leads |
//! | `request` | what an operator asked the leader for |

mod error;
mod lease;
mod snapshot;
mod store;

pub(super) use lease::LEASE_TIME;
pub(super) use snapshot::{Candidate, FarmSnapshot, Versioned};
pub use snapshot::{HostRecord, Request};
pub(super) use store::{Preconditions, Store};
