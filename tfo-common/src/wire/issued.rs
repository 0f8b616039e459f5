//! A SYN-ACK that hands out a Fast Open cookie.

use super::{
    Frame, Link, Located, NotSyn, View as _,
    addresses::Addresses,
    locate, network_addresses,
    options::fast_open::{self, Cookie, FastOpen},
    tcp::{ACK, DATA_OFFSET, FLAGS, MIN_HEADER_LEN, RST, SYN},
    tunnel::NoTunnels,
};

/// A SYN-ACK with a cookie of [`Cookie::LEN`] bytes, seen from the SYN that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The client's and the server's address: source and destination of the SYN.
    pub addresses: Addresses,
    /// The client's then the server's port as on the wire, in a little-endian word.
    pub ports: u32,
    /// The cookie.
    pub cookie: Cookie,
    /// Offset of the TCP header from the frame's first byte.
    pub tcp: u16,
    /// Offset of the cookie from the first byte of the TCP header.
    pub at: u8,
}

impl Issued {
    /// The server's port.
    #[inline(always)]
    pub const fn server_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}

/// Reads `frame`, if it is such a segment, and no signature covers the cookie.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Issued, NotSyn> {
    let Located {
        at,
        version,
        network,
        ..
    } = locate(frame, link, NoTunnels)?;
    let header = frame
        .view::<MIN_HEADER_LEN>(network.transport)
        .ok_or(NotSyn::Unparsed)?;
    if header.byte(FLAGS) & (SYN | RST | ACK) != SYN | ACK {
        return Err(NotSyn::Other);
    }
    let header_len = usize::from(header.byte(DATA_OFFSET) >> 4) * 4;
    if header_len < MIN_HEADER_LEN || network.end < network.transport + header_len {
        return Err(NotSyn::Unparsed);
    }
    let ports = (header.word(0) as u32).rotate_left(16);
    // The verifier then goes on once, not once for each sum of header lengths.
    let tcp = frame.barrier_var(network.transport as u64) as u16;
    let (options, place) = fast_open::parse(
        frame,
        network.transport + MIN_HEADER_LEN,
        header_len - MIN_HEADER_LEN,
        false,
    );
    let FastOpen::Cookie(cookie) = options.fast_open else {
        return Err(NotSyn::Other);
    };
    if options.signatures.cover_options() {
        return Err(NotSyn::Other);
    }
    Ok(Issued {
        addresses: network_addresses(frame, at, &version)?.reversed(),
        ports,
        cookie,
        tcp,
        at: MIN_HEADER_LEN as u8 + place.cookie(),
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A SYN-ACK of 192.0.2.1 port 80 to 10.0.0.9 port 5000, with these options.
    fn frame(flags: u8, options: &[u8]) -> Vec<u8> {
        let header_len = 20 + options.len();
        let mut frame = [&[0; 12][..], &[8, 0, 0x45, 0, 0, (20 + header_len) as u8]].concat();
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 10, 0, 0, 9]);
        frame.extend([0, 80, 0x13, 0x88, 0, 0, 0, 1, 0, 0, 0, 2]);
        frame.extend([(header_len as u8) << 2, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(options);
        frame
    }

    #[test]
    fn a_cookie_is_found_in_either_option() {
        for (options, at) in [
            (&b"\x22\x0abiscuits\x01\x01"[..], 22),
            (b"\x02\x04\x05\xb4\xfe\x0c\xf9\x89biscuits", 28),
            (b"\x01\x22\x0abiscuits\x01", 23),
        ] {
            let frame = frame(SYN | ACK, options);
            let issued = parse(&frame[..], Link::Ethernet).unwrap();
            let cookie = Cookie::from_bytes(*b"biscuits");
            assert_eq!((issued.cookie, issued.at, issued.tcp), (cookie, at, 34));
            let start = usize::from(issued.tcp) + usize::from(issued.at);
            assert_eq!(&frame[start..start + 8], b"biscuits");
            assert_eq!(issued.server_port(), 80);
            assert_eq!(
                issued.addresses,
                Addresses::v4([10, 0, 0, 9], [192, 0, 2, 1])
            );
        }
    }

    #[test]
    fn other_segments_hand_out_none() {
        let cookie = b"\x22\x0abiscuits\x01\x01";
        for (flags, options) in [
            (SYN, &cookie[..]),
            (ACK, cookie),
            (SYN | ACK | RST, cookie),
            (SYN | ACK, b"\x22\x02\x01\x01"),
            (SYN | ACK, b"\x22\x06bisc\x01\x01"),
            (SYN | ACK, b""),
            // TCP-AO.
            (SYN | ACK, b"\x1d\x06\x01\x01ao\x22\x0abiscuits"),
        ] {
            let parsed = parse(&frame(flags, options)[..], Link::Ethernet);
            assert_eq!(parsed, Err(NotSyn::Other), "{flags:x} {options:?}");
        }
    }
}
