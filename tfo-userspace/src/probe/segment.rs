//! The SYNs of a probe, what answers them, and what routers quote of them.

use std::net::{IpAddr, SocketAddr};

use tfo_common::wire::{
    addresses::Addresses,
    checksum::{fold, pseudo_header},
    options::fast_open::{Cookie, FastOpen, parse},
};

const HEADER: usize = 20;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// MSS 1220, which fits any path; SACK permitted; window scale 7.
const OPTIONS: [u8; 12] = [2, 4, 4, 196, 1, 1, 4, 2, 1, 3, 3, 7];
const PROTOCOL: u8 = 6;

/// The Fast Open option of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeOption {
    /// Kind 254 instead of 34.
    pub(super) experimental: bool,
    /// The cookie; `None` asks for one.
    pub(super) cookie: Option<Cookie>,
}

/// A SYN of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeSyn<'a> {
    pub(super) option: Option<ProbeOption>,
    pub(super) data: &'a [u8],
}

/// A SYN-ACK or a reset that answers a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    SynAck {
        /// Bytes of the SYN's data that it acknowledges.
        acked: u32,
        cookie: Option<Cookie>,
        experimental: bool,
    },
    Reset,
}

impl ProbeSyn<'_> {
    /// The segment, with its checksum.
    pub(super) fn segment(&self, from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
        let mut options = OPTIONS.to_vec();
        if let Some(option) = self.option {
            let cookie = option.cookie.map(Cookie::to_bytes);
            let cookie = cookie.as_ref().map_or(&[][..], |bytes| &bytes[..]);
            let header: &[u8] = if option.experimental {
                &[254, cookie.len() as u8 + 4, 0xf9, 0x89]
            } else {
                &[34, cookie.len() as u8 + 2]
            };
            options.extend(header);
            options.extend(cookie);
        }
        options.resize(options.len().next_multiple_of(4), 1);
        let words = (HEADER + options.len()) / 4;
        let mut bytes = Vec::with_capacity(words * 4 + self.data.len());
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([(words << 4) as u8, SYN]);
        // Window, checksum, urgent pointer.
        bytes.extend(u16::MAX.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(self.data);
        let checksum = checksum(from.ip(), to.ip(), &bytes);
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Addresses::v4(from.octets(), to.octets()),
        (from, to) => {
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            Addresses::v6(octets(from), octets(to))
        }
    };
    let mut sum = u32::from(pseudo_header(&addresses, segment.len() as u32));
    for pair in segment.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    !fold(sum)
}

/// The answer in a segment to the SYN from `port` with this sequence number; `None` for any other segment.
pub(super) fn answer(segment: &[u8], from: u16, port: u16, sequence: u32) -> Option<Answer> {
    let [source, destination] = ports(segment)?;
    let flags = *segment.get(13)?;
    if (source, destination) != (from, port) || flags & ACK == 0 {
        return None;
    }
    // A reset of something older has another one.
    let acked = word(segment, 8)?.wrapping_sub(sequence.wrapping_add(1));
    if acked > 0xffff {
        return None;
    }
    if flags & RST != 0 {
        return Some(Answer::Reset);
    }
    if flags & SYN == 0 {
        return None;
    }
    let options = segment.get(..header_len(segment)?)?;
    let (options, _) = parse(options, HEADER, options.len() - HEADER, true);
    Some(Answer::SynAck {
        acked,
        cookie: match options.fast_open {
            FastOpen::Cookie(cookie) => Some(cookie),
            _ => None,
        },
        experimental: options.experimental,
    })
}

/// The Fast Open option in a router's quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quoted {
    /// As it was sent.
    Intact,
    /// Gone.
    Missing,
    /// Another cookie, or another form.
    Changed,
    /// The router quotes too little to tell.
    TooShort,
}

/// Compares the TCP header in an ICMP message with `syn`; `None` if it quotes another segment.
pub(super) fn quoted(
    header: &[u8],
    to: u16,
    port: u16,
    sequence: u32,
    syn: &ProbeSyn<'_>,
) -> Option<Quoted> {
    if ports(header)? != [port, to] || word(header, 4)? != sequence {
        return None;
    }
    let whole = header_len(header).and_then(|len| header.get(..len));
    let Some(whole) = whole else {
        return Some(Quoted::TooShort);
    };
    let (options, _) = parse(whole, HEADER, whole.len() - HEADER, true);
    let expected = match syn.option {
        None => FastOpen::Absent,
        Some(option) => option.cookie.map_or(FastOpen::Request, FastOpen::Cookie),
    };
    let is_other_kind = syn
        .option
        .is_some_and(|option| option.experimental != options.experimental);
    Some(
        if options.fast_open == FastOpen::Absent && expected != FastOpen::Absent {
            Quoted::Missing
        } else if options.fast_open != expected || is_other_kind {
            Quoted::Changed
        } else {
            Quoted::Intact
        },
    )
}

/// The TCP header that an ICMP message (without its IP header) about an undelivered packet quotes, at least its first eight
/// bytes; `None` for another message.
pub(super) fn quoted_header(message: &[u8], is_v4: bool) -> Option<&[u8]> {
    // Time exceeded, destination unreachable.
    let types = if is_v4 { [11, 3] } else { [3, 1] };
    if !types.contains(message.first()?) {
        return None;
    }
    let packet = message.get(8..)?;
    let (protocol, length) = if is_v4 {
        (*packet.get(9)?, usize::from(packet.first()? & 0xf) * 4)
    } else {
        (*packet.get(6)?, 40)
    };
    let header = packet.get(length..)?;
    (protocol == PROTOCOL && header.len() >= 8).then_some(header)
}

/// Bytes of the TCP header; `None` where it is cut off or has none.
fn header_len(segment: &[u8]) -> Option<usize> {
    let len = usize::from(segment.get(12)? >> 4) * 4;
    (len >= HEADER && segment.len() >= len).then_some(len)
}

fn ports(segment: &[u8]) -> Option<[u16; 2]> {
    let half = |at: usize| Some(u16::from_be_bytes(*segment.get(at..)?.first_chunk()?));
    Some([half(0)?, half(2)?])
}

fn word(segment: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie = Cookie::from_word(0x0102_0304_0506_0708);

    fn syn(experimental: bool, cookie: Option<Cookie>) -> ProbeSyn<'static> {
        ProbeSyn {
            option: Some(ProbeOption {
                experimental,
                cookie,
            }),
            data: b"\r\n",
        }
    }

    fn segment(syn: &ProbeSyn<'_>) -> Vec<u8> {
        let from = "192.0.2.1:1000".parse().unwrap();
        syn.segment(from, "192.0.2.2:443".parse().unwrap(), 7)
    }

    #[test]
    fn what_is_quoted_is_held_against_what_was_sent() {
        for experimental in [false, true] {
            for cookie in [None, Some(COOKIE)] {
                let sent = syn(experimental, cookie);
                let bytes = segment(&sent);
                let told = |bytes: &[u8], sent| quoted(bytes, 443, 1000, 7, sent);
                assert_eq!(told(&bytes, &sent), Some(Quoted::Intact));
                assert_eq!(told(&bytes[..8], &sent), Some(Quoted::TooShort));
                assert_eq!(told(&bytes[..30], &sent), Some(Quoted::TooShort));
                let other = syn(!experimental, cookie);
                assert_eq!(told(&bytes, &other), Some(Quoted::Changed));
                let mut stripped = bytes.clone();
                let options = HEADER + OPTIONS.len();
                let end = bytes.len() - sent.data.len();
                stripped[options..end].fill(1);
                assert_eq!(told(&stripped, &sent), Some(Quoted::Missing));
                assert_eq!(quoted(&bytes, 443, 1001, 7, &sent), None);
                assert_eq!(quoted(&bytes, 443, 1000, 8, &sent), None);
            }
        }
    }

    #[test]
    fn the_checksum_is_right_for_both_families() {
        for (from, to) in [
            ("192.0.2.1:1000", "192.0.2.2:443"),
            ("[2001:db8::1]:1000", "[2001:db8::2]:443"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let bytes = syn(false, Some(COOKIE)).segment(from, to, 7);
            // Over a segment with its checksum, the sum is all ones.
            assert_eq!(checksum(from.ip(), to.ip(), &bytes), 0);
        }
    }

    #[test]
    fn answers_are_those_of_this_syn() {
        let mut bytes = segment(&syn(true, Some(COOKIE)));
        bytes.swap(0, 2);
        bytes.swap(1, 3);
        bytes[8..12].copy_from_slice(&10_u32.to_be_bytes());
        bytes[13] = SYN | ACK;
        let expected = Answer::SynAck {
            acked: 2,
            cookie: Some(COOKIE),
            experimental: true,
        };
        assert_eq!(answer(&bytes, 443, 1000, 7), Some(expected));
        assert_eq!(answer(&bytes, 443, 1000, 70), None);
        assert_eq!(answer(&bytes, 80, 1000, 7), None);
        bytes[13] = RST | ACK;
        assert_eq!(answer(&bytes, 443, 1000, 7), Some(Answer::Reset));
        bytes[13] = SYN;
        assert_eq!(answer(&bytes, 443, 1000, 7), None);
        assert_eq!(answer(&bytes[..12], 443, 1000, 7), None);
    }

    #[test]
    fn messages_about_other_packets_are_left_out() {
        let bytes = segment(&syn(false, None));
        let mut message = vec![11, 0, 0, 0, 0, 0, 0, 0];
        message.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 1, 6]);
        message.extend([0; 10]);
        message.extend(&bytes);
        assert_eq!(quoted_header(&message, true), Some(&bytes[..]));
        message[17] = 17;
        assert_eq!(quoted_header(&message, true), None);
        assert_eq!(quoted_header(&message[..20], true), None);
        assert_eq!(quoted_header(&[8, 0], true), None);
    }
}
