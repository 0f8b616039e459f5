//! The guard: when ports become guarded, and when that ends.
//!
//! The guard itself is in [`crate::model`], its section of the configuration file in [`crate::config`].

mod switch;

pub use switch::{Switch, changes};
