//! Packet memory: one reader, one writer, and a check of checksums.

pub(crate) mod checksum;
pub(crate) mod read;
mod unaligned;
pub(crate) mod write;
