//! The guard: its section of a configuration file, and when ports come to be guarded.

mod section;
mod switch;

pub use section::{PortSection, Section};
pub use switch::{Switch, changes};

// Until every importer names `model`.
pub use crate::model::{Guard, PortGuard};
