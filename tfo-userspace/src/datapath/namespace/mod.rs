//! The calling thread's network namespace: one file per thing that its interfaces share.

mod controller;
mod counters;
mod current;
mod drift;
mod error;
mod events;
mod guard;
mod interfaces;
pub mod key_change;
mod keys;
mod memory;
mod own_cookies;
mod policy;
mod routes;
mod state;
mod strays;

pub(super) use controller::is_controlled;
pub use controller::{ControllerError, ControllerLock, LockFailure, sweep_controllers};
pub use counters::InterfaceCounters;
pub use current::Namespace;
pub use drift::Drift;
pub use error::NamespaceError;
pub use guard::NamespaceGuard;
pub use interfaces::AttachedInterface;
pub(super) use interfaces::{Unknown, mode_on};
pub use keys::NamespaceKeys;
pub use memory::Memory;
pub use own_cookies::NamespaceOwnCookies;
pub use policy::{NamespacePolicy, PolicyChange};
pub use strays::Stray;
