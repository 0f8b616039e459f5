//! The programs' view of the kernel: sockets, their fields, the clock, a kfunc.

pub(crate) mod barrier;
pub(crate) mod clock;
mod iterator;
pub(crate) mod kfunc;
mod listener;
mod offsets;
pub(crate) mod socket;
