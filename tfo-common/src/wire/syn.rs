//! What the data path keeps of a SYN.

use crate::{
    cookie::Addresses,
    wire::options::{Options, Place},
};

/// A TCP segment that asks for a connection, as a listener would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Source and destination address.
    pub addresses: Addresses,
    /// Source then destination port as on the wire, in a little-endian word.
    pub ports: u32,
    /// The sequence number.
    pub sequence: u32,
    /// Bytes of data behind the TCP header, without the padding of a short frame.
    pub data_len: u32,
    /// What the options say about TCP Fast Open.
    pub options: Options,
    /// Where that stands in the frame.
    pub layout: Layout,
}

/// Where a frame has what a change of its Fast Open option touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the network header from the frame's first byte.
    pub network: u8,
    /// Offset of the TCP header from the frame's first byte.
    pub tcp: u16,
    /// Bytes of the TCP header, with its options.
    pub header_len: u8,
    /// The option that counts, in the list of options.
    pub option: Place,
}

impl Layout {
    /// A header without options at the frame's first byte.
    pub const NONE: Self = Self {
        network: 0,
        tcp: 0,
        header_len: 20,
        option: Place::NONE,
    };
}

impl Syn {
    /// The port that is asked for a connection.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}
