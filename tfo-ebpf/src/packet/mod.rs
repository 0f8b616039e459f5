//! Packet memory: one reader, one writer.

pub(crate) mod read;
mod unaligned;
pub(crate) mod write;
