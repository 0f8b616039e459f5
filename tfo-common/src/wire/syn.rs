//! A SYN, as a listener sees it.

use super::{
    Frame, Link, Located, NotSyn, Plain, Version, View as _,
    addresses::Addresses,
    ethernet, extensions,
    frame::hidden,
    ipv4, ipv6, locate, network_addresses,
    options::fast_open::{self, PackedOptions},
    tcp,
    tunnel::{NoTunnels, Tunnels},
};

/// Mask of the offset of the transport header: IPv6's extension headers lead furthest.
const TRANSPORT_MASK: u64 = extensions::OFFSET_MASK;

/// A TCP segment that opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Source and destination address.
    pub addresses: Addresses,
    /// Source then destination port as on the wire, in a little-endian word.
    pub ports: u32,
    /// Sequence number.
    pub sequence: u32,
    /// Bytes of data behind the TCP header, without the padding of a short frame.
    pub data_len: u32,
    /// The options, as far as Fast Open depends on them.
    pub options: PackedOptions,
    /// Offsets in the frame.
    pub layout: Layout,
}

/// Offsets of the headers in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the SYN's network header from the frame's first byte.
    pub network: u8,
    /// Offset of the TCP header from the frame's first byte.
    pub tcp: u16,
    /// Bytes of the TCP header, with its options.
    pub header_len: u8,
}

impl Layout {
    /// A header without options at the frame's first byte.
    pub const NONE: Self = Self {
        network: 0,
        tcp: 0,
        header_len: 20,
    };
}

impl Syn {
    /// The destination port.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }

    /// `true` if a Fast Open option counts.
    #[inline(always)]
    pub const fn has_fast_open(&self) -> bool {
        self.options.has_fast_open()
    }

    /// `true` if the SYN asked for Fast Open, even with an option that the kernel ignores.
    #[inline(always)]
    pub const fn asks_for_fast_open(&self) -> bool {
        self.options.is_malformed() || self.has_fast_open()
    }

    /// `true` if the outcome depends on the socket that the SYN meets. Others are looked up for the guard alone.
    #[inline(always)]
    pub const fn concerns_fast_open(&self) -> bool {
        self.has_fast_open() || self.data_len > 0
    }
}

/// The headers of a frame at first sight, which is enough for most packets of a host: TCP right behind IPv4 without options
/// or IPv6 without extensions, behind an Ethernet header.
#[derive(Clone, Copy)]
pub enum Sight {
    /// It is no SYN.
    NotSyn,
    /// It has the flags of a SYN.
    Syn(Plain),
    /// The headers are others, or the frame ends in them.
    Unclear,
}

/// Looks at `frame`, which starts with an Ethernet header. [`parse`] says the same of it, and of more.
#[inline(always)]
pub fn at_sight<F: Frame + ?Sized>(frame: &F) -> Sight {
    const AT: usize = ethernet::HEADER_LEN;
    const TCP_BEHIND_V4: usize = AT + ipv4::MIN_HEADER_LEN;
    const TCP_BEHIND_V6: usize = AT + ipv6::HEADER_LEN;
    let Some(headers) = frame.view::<{ TCP_BEHIND_V4 + tcp::MIN_HEADER_LEN }>(0) else {
        return Sight::Unclear;
    };
    match headers.half(AT - 2) {
        ethernet::IPV4 if ipv4::is_plain_tcp(&headers, AT) => {
            if !tcp::is_syn(headers.byte(TCP_BEHIND_V4 + tcp::FLAGS)) {
                return Sight::NotSyn;
            }
            let len = ipv4::total_len(&headers, AT);
            Sight::Syn(Plain {
                version: Version::V4,
                len,
            })
        }
        ethernet::IPV6 if ipv6::is_plain_tcp(&headers, AT) => {
            let Some(header) = frame.view::<{ tcp::MIN_HEADER_LEN }>(TCP_BEHIND_V6) else {
                return Sight::Unclear;
            };
            if !tcp::is_syn(header.byte(tcp::FLAGS)) {
                return Sight::NotSyn;
            }
            let len = ipv6::total_len(&headers, AT);
            Sight::Syn(Plain {
                version: Version::V6,
                len,
            })
        }
        _ => Sight::Unclear,
    }
}

/// Reads `frame`, which starts with an Ethernet header, down to its TCP options, if it is a SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Syn, NotSyn> {
    parse_behind(frame, Link::Ethernet, Sight::Unclear)
}

/// Reads `frame`, which starts with the header that `link` names and has been seen so, down to its TCP options, if it is a
/// SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse_behind<F: Frame + ?Sized>(frame: &F, link: Link, sight: Sight) -> Result<Syn, NotSyn> {
    match parse_through(frame, link, sight, NoTunnels) {
        Ok(arrived) => Ok(arrived.syn),
        Err(error) => Err(error),
    }
}

/// A SYN, and the packet in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The SYN; offsets are from the frame's first byte.
    pub syn: Syn,
    /// Offset of the first network header from the frame's first byte: that of the outer one, where the SYN came in a tunnel.
    pub outer: u8,
}

impl Arrived {
    /// `true` if the SYN came in a tunnel.
    #[inline(always)]
    pub const fn is_tunnelled(&self) -> bool {
        self.outer != self.syn.layout.network
    }
}

/// As [`parse_behind`], also of a SYN in one of `tunnels`.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse_through<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    sight: Sight,
    tunnels: impl Tunnels,
) -> Result<Arrived, NotSyn> {
    let Located {
        outer,
        at,
        version,
        network,
    } = match sight {
        Sight::Syn(plain) => plain.locate(frame, tunnels),
        Sight::NotSyn | Sight::Unclear => locate(frame, link, tunnels)?,
    };
    let segment = tcp::parse(frame, &network)?;
    let (mut tcp, mut version) = hidden::<_, TRANSPORT_MASK>(frame, network.transport, version);
    if !matches!(sight, Sight::Syn(_)) {
        check_options(frame, at, &version, tcp)?;
        (tcp, version) = hidden::<_, TRANSPORT_MASK>(frame, tcp, version);
    }
    let options = fast_open::parse_packed(
        frame,
        tcp + tcp::MIN_HEADER_LEN,
        segment.options_len,
        segment.data_len > 0,
    );
    // The addresses come last, so that they take no registers meanwhile.
    let addresses = network_addresses(frame, at, &version)?;
    let syn = Syn {
        addresses,
        ports: segment.ports,
        sequence: segment.sequence,
        data_len: segment.data_len as u32,
        options,
        layout: Layout {
            network: at as u8,
            tcp: tcp as u16,
            header_len: segment.header_len() as u8,
        },
    };
    Ok(Arrived {
        syn,
        outer: outer as u8,
    })
}

/// Reads the options of the network header at offset `at`, up to the TCP header at `transport`.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where Linux drops a packet with them.
#[inline(always)]
fn check_options<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: &Version,
    transport: usize,
) -> Result<(), NotSyn> {
    match version {
        Version::V4 => {
            let start = at + ipv4::MIN_HEADER_LEN;
            if start == transport {
                return Ok(());
            }
            ipv4::options::check(frame, start, transport)
        }
        Version::V6 => {
            let start = at + ipv6::HEADER_LEN;
            if start == transport {
                return Ok(());
            }
            extensions::options::check(frame, start, transport, ipv6::next_header(frame, at)?)
        }
    }
}
