//! The maps: each file owns one, or a family of them, and gives the only access to it.

mod array_of_maps;
pub(crate) mod counters;
pub(crate) mod events;
pub(crate) mod guard;
pub(crate) mod just_accepted;
pub(crate) mod keys;
pub(crate) mod once;
pub(crate) mod own_cookies;
pub(crate) mod policy;
pub(crate) mod routes;
pub(crate) mod sources;
pub(crate) mod switches;
pub(crate) mod syn_ack;
pub(crate) mod syn_context;
pub(crate) mod withhold;
