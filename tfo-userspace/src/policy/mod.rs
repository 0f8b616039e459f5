//! Policies: their section of a configuration file, their lists, and the listeners that they must fit.

mod lists;
mod no_cookie;
mod section;

pub use lists::ListError;
pub use no_cookie::NoCookieError;
pub(crate) use section::by_port;
pub use section::{MAX_SOURCES, PortSection, Section, SectionError, Word};

// Until every importer names `model`.
pub use crate::model::{LimitedSources, Lists, Policy, PortPolicy, format_rate, parse_rate};
