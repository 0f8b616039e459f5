//! The network namespaces that the configuration names, by exact names and by patterns: each has a process of its own, from
//! when it comes until it goes.

mod helper;
mod keeper;
mod log;
mod messages;
mod parent;
mod process;
mod remote;
mod running;
mod scan;
mod view;

pub use helper::NetnsHelper;
pub(super) use keeper::{Failures, HelperEnded, Keeper, LOOK};
pub(super) use log::log_failures;
pub(super) use messages::{Failure, Status};
pub(super) use view::{Place, SectionStatus};
