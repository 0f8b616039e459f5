//! Policies: the files of their lists, the rules that cannot be carried out, and the listeners that a rule does not fit.
//!
//! The policy itself is in [`crate::model`], its section of the configuration file in [`crate::config`].

mod check;
mod lists;
mod no_cookie;

pub use lists::ListError;
pub use no_cookie::NoCookieError;
