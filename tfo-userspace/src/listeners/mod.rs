//! Fast Open for listeners that run already: sets `TCP_FASTOPEN` on sockets of other processes.

mod change;

pub use change::{Change, ChangeError, Refusal, Target, change, on_port};

/// `TCP_FASTOPEN` where nobody says how long the queue is.
pub const DEFAULT_QUEUE: u32 = 256;
