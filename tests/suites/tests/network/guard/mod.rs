//! The guard on live connections: clients and listeners negotiate the same as without it, and SYNs without a proof
//! have no effect.

mod beside;
mod conntrack;
mod direct_return;
mod fitness;
mod gate;
mod handshake;
mod limits;
mod listeners;
mod proof;
mod random;
mod secret;
mod servers;
mod stranger;
mod syn_ack;
mod testbed;
mod vlan;

pub(crate) use fitness::{printed, set_rules, type_in};
pub(crate) use stranger::{Challenge, Stranger};
pub(crate) use testbed::GuardTestbed;
