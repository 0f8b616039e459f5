//! One map, or family of maps, per file: typed access for the controller.

mod batch;
mod counters;
mod edge_entry;
mod events;
mod guard_clock;
mod guard_store;
mod inner_map;
mod key_store;
mod once_store;
mod own_cookie_store;
mod policy_slot;
mod policy_store;
mod port_state;
mod route_store;
mod sources;
mod switch_store;
mod withhold_store;

pub use counters::Snapshot;
pub(super) use counters::read_sizes;
pub use events::{DEFAULT_RATE, EventFilter, EventStream, Lost, slug};
pub use guard_clock::Stale;
pub use guard_store::GuardState;
pub(super) use guard_store::{GuardStore, armed};
pub(super) use key_store::KeyStore;
pub(super) use own_cookie_store::OwnCookieStore;
pub(super) use policy_store::PolicyStore;
pub use policy_store::PolicySummary;
pub(super) use route_store::RouteStore;
pub use sources::Sources;
pub(super) use switch_store::SwitchStore;
