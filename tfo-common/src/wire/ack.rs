//! A segment with ACK and without SYN and RST, as the last one of a handshake. Linux: `cookie_v4_check`.

use super::{
    Frame, Link, Located, NotSyn, View as _,
    addresses::Addresses,
    locate, network_addresses,
    options::negotiated::{self, Timestamps},
    tcp::{ACK, DATA_OFFSET, FLAGS, MIN_HEADER_LEN, RST, SYN},
    tunnel::NoTunnels,
};

/// A segment with ACK and without SYN and RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Source and destination address.
    pub addresses: Addresses,
    /// Source then destination port as on the wire, in a little-endian word.
    pub ports: u32,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// The timestamps option.
    pub timestamps: Option<Timestamps>,
    /// Offset of the TCP header from the frame's first byte.
    pub tcp: u16,
    /// Bytes of the segment, header and data.
    pub len: u16,
}

impl Ack {
    /// The destination port.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}

/// Reads `frame`, if it is such a segment and `wanted` accepts its destination port.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    wanted: impl FnOnce(u16) -> bool,
) -> Result<Ack, NotSyn> {
    let Located {
        at,
        version,
        network,
        ..
    } = locate(frame, link, NoTunnels)?;
    let header = frame
        .view::<MIN_HEADER_LEN>(network.transport)
        .ok_or(NotSyn::Unparsed)?;
    if header.byte(FLAGS) & (SYN | RST | ACK) != ACK || !wanted(header.half(2)) {
        return Err(NotSyn::Other);
    }
    let header_len = usize::from(header.byte(DATA_OFFSET) >> 4) * 4;
    if header_len < MIN_HEADER_LEN || network.end < network.transport + header_len {
        return Err(NotSyn::Unparsed);
    }
    let (first, second) = (header.word(0), header.word(8));
    // The verifier then goes on once, not once for each sum of header lengths.
    let len = (network.end - network.transport) as u64;
    let layout = frame.barrier_var(network.transport as u64 | len << u16::BITS);
    let timestamps = negotiated::timestamps(
        frame,
        network.transport + MIN_HEADER_LEN,
        header_len - MIN_HEADER_LEN,
    );
    Ok(Ack {
        addresses: network_addresses(frame, at, &version)?,
        ports: first as u32,
        sequence: ((first >> 32) as u32).swap_bytes(),
        acknowledged: (second as u32).swap_bytes(),
        timestamps,
        tcp: layout as u16,
        len: (layout >> u16::BITS) as u16,
    })
}
