//! The programs' view of the kernel: sockets, devices, the clock, kfuncs.

pub(crate) mod ack_listener;
pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod device;
mod earlier;
pub(crate) mod established;
mod iterator;
pub(crate) mod kfunc;
pub(crate) mod listener;
mod offsets;
pub(crate) mod socket;
