//! Packet memory: one reader, the writers of an option and of an answer, and a check of checksums.

pub(crate) mod answer;
pub(crate) mod checksum;
pub(crate) mod claim;
pub(crate) mod data;
pub(crate) mod read;
mod unaligned;
pub(crate) mod write;
