//! The guard: while a port is flooded, a SYN with a valid Fast Open cookie passes, and every other one is answered in the
//! data path with a challenge. The kernel sees only the clients that answer it.
//!
//! A valid cookie proves that its sender receives at its address: the cookie was sent there before. Challenges are
//! stateless ([`challenge`]). [`decision`] decides about a SYN, [`ack`] about the ACK that answers a challenge. An [`edge`]
//! challenges for the hosts behind it, where [`earlier`] connections may be in the way.

pub mod ack;
pub mod challenge;
pub mod decision;
pub mod earlier;
pub mod edge;
mod listener;
mod rule;
pub mod source;

pub use decision::{Decision, GuardAction};
pub use listener::{HeaderRules, ListenerFlags};
pub use rule::{
    GuardHead, GuardMode, GuardPort, GuardRule, PortState, SECRETS, SLOT_SHIFT, WRONG_ACKS,
    secret_index,
};
