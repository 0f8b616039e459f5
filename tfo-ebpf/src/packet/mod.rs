//! Packet memory: one reader, the writers of an option, of an answer and of a reset, and a check of checksums.

pub(crate) mod answer;
pub(crate) mod checksum;
pub(crate) mod claim;
pub(crate) mod data;
pub(crate) mod decap;
pub(crate) mod read;
pub(crate) mod replace;
mod unaligned;
pub(crate) mod write;
