//! The guard in the data path: what it goes by, and its programs, which an interface has only while there is a
//! guard.

mod namespace;
mod programs;
mod store;

pub use namespace::{GuardError, GuardState, PortState, Unguarded};
pub(super) use programs::{discharge, load_proof, order, post, set_stages};
pub use store::GuardStore;
