//! Policies: what is done to a SYN with a Fast Open option or data, by port.
//!
//! [`Rule`] is what an operator sets for a port; [`Verdict::of`] applies it to one classified SYN.

mod action;
mod class;
mod limit;
pub mod once;
mod rule;
mod verdict;
pub mod withhold;

pub use action::Action;
pub use class::Class;
pub use limit::{Limit, LimitKey, Scope};
pub use rule::{ListEntry, PortRule, Rule};
pub use verdict::{Cause, PolicyState, Verdict};
