//! What the data path keeps of a SYN.

use crate::{cookie::Addresses, wire::options::Options};

/// A TCP segment that asks for a connection, as a listener would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Source and destination address.
    pub addresses: Addresses,
    /// Destination port.
    pub destination_port: u16,
    /// Bytes of data behind the TCP header, without the padding of a short frame.
    pub data_len: u32,
    /// What the options say about TCP Fast Open.
    pub options: Options,
}
