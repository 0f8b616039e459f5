//! Policies: the files of their lists, the rules that cannot be carried out, the listeners that a rule does not fit, and what
//! the action `once` leaves open.
//!
//! The policy itself is in [`crate::model`], its section of the configuration file in [`crate::config`].

mod check;
mod lists;
mod no_cookie;
mod once;

pub use lists::ListError;
pub use no_cookie::NoCookieError;
pub use once::CookieLives;
