//! The guard: whether it can work on this host; when ports become guarded, and when that ends; whether clients complete its
//! challenges.
//!
//! The guard itself is in [`crate::model`], its section of the configuration file in [`crate::config`].

mod answers;
mod edge_routes;
pub mod fitness;
mod obstacle;
mod switch;

pub use answers::{Answers, Trouble};
pub use obstacle::{Obstacle, Weight};
pub use switch::{PortStates, Switch, changes};
