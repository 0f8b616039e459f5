//! The kernel's truth table: what becomes of a SYN, and why.
//!
//! Source: Linux' `tcp_conn_request`, `tcp_try_fastopen` and `tcp_fastopen_cookie_gen_check`, in the order in which
//! they decide. Where the socket is unknown, the packet and the keys decide alone. [`Classification`] holds both
//! halves, what the socket decides and what the cookie is worth; [`Outcome`] is what they come to.

mod classification;
pub mod outcome;
pub mod socket;

pub use classification::Classification;
pub use outcome::Outcome;
