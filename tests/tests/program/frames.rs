//! What is a SYN, and what is not: flags, headers, and frames that are not read.

use anyhow::Result;
use bytes::Bytes;
use etherparse::{EtherType, PacketBuilder};
use tfo_common::counters::Counter::{CookieReqd, Passive, Syns};
use tfo_tests::{
    packet::{Segment, fast_open, flag, linux_options},
    program::{Counted, Program},
};

use crate::flow::{FLOWS, Flow, PRIMARY, V4, V6, syn_counts, unparsed};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// The flags and the header's length in a TCP header.
const TCP_OFFSET: usize = 12;

const DATA: &[u8] = b"GET /";

fn program() -> Result<Program> {
    Program::with_keys(&[PRIMARY])
}

/// A SYN with a good cookie and data.
fn good(flow: Flow) -> Segment {
    flow.syn()
        .options(&linux_options(&fast_open(&flow.cookie(&PRIMARY))))
        .data(DATA)
}

/// Where the TCP header starts.
fn tcp(flow: Flow) -> usize {
    ETHERNET + if flow.client.is_ipv4() { IPV4 } else { IPV6 }
}

/// The frame with other bytes from offset `at`.
fn with(frame: &Bytes, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

#[test]
fn a_syn_is_one_without_fin_rst_and_ack() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        for flags in 0..=u8::MAX {
            let segment = flow.segment(flags).options(&fast_open(b"")).data(DATA);
            let deciding = flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK);
            let expected = if deciding == flag::SYN {
                syn_counts(&[CookieReqd], DATA)
            } else {
                Counted::nothing()
            };
            let counted = program.count(&segment.padded_frame())?;
            assert_eq!(counted, expected, "flags {flags:#04x}");
        }
    }
    Ok(())
}

/// Bit 8 of the flags, in the byte of the header's length: the old nonce sum, today accurate ECN.
#[test]
fn reserved_bits_do_not_matter() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        let frame = good(flow).frame();
        let at = tcp(flow) + TCP_OFFSET;
        let frame = with(&frame, at, &[frame[at] | 0x0f]);
        assert_eq!(program.count(&frame)?, syn_counts(&[Passive], DATA));
    }
    Ok(())
}

#[test]
fn padding_is_no_data() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        for data in [b"".as_slice(), b"1", b"12345"] {
            for padding in [1, 2, 6, 46] {
                let frame = flow.syn().data(data).frame();
                let padded = [&frame[..], &vec![0x22; padding]].concat();
                assert_eq!(program.count(&padded)?, syn_counts(&[], data));
            }
        }
    }
    Ok(())
}

#[test]
fn ipv4_options_are_skipped() -> Result<()> {
    let frame = good(V4).ip_options().frame();
    assert_eq!(frame[ETHERNET], 0x47);
    let counted = program()?.count(&frame)?;
    assert_eq!(counted, syn_counts(&[Passive], DATA));
    Ok(())
}

/// Each of these may be a SYN that the kernel will see; the program says that it did not look.
#[test]
fn frames_that_are_not_read() -> Result<()> {
    let program = program()?;
    for (name, segment) in [
        ("first fragment", good(V4).fragment(0, true)),
        ("middle fragment", good(V4).fragment(8, true)),
        ("last fragment", good(V4).fragment(8, false)),
        ("hop-by-hop header", good(V6).ip_options()),
        (
            "customer tag, IPv4",
            good(V4).vlan(EtherType::VLAN_TAGGED_FRAME),
        ),
        (
            "customer tag, IPv6",
            good(V6).vlan(EtherType::VLAN_TAGGED_FRAME),
        ),
        (
            "service tag, IPv4",
            good(V4).vlan(EtherType::PROVIDER_BRIDGING),
        ),
        (
            "service tag, IPv6",
            good(V6).vlan(EtherType::PROVIDER_BRIDGING),
        ),
    ] {
        assert_eq!(program.count(&segment.frame())?, unparsed(), "{name}");
    }
    for extension in [0, 43, 44, 51, 60, 135] {
        let frame = with(&good(V6).frame(), ETHERNET + 6, &[extension]);
        assert_eq!(program.count(&frame)?, unparsed(), "extension {extension}");
    }
    Ok(())
}

#[test]
fn frames_cut_short_are_not_read() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        let frame = good(flow).frame();
        for len in ETHERNET..frame.len() {
            assert_eq!(program.count(&frame[..len])?, unparsed(), "{len} bytes");
        }
        let whole = program.count(&frame)?;
        assert_eq!(whole, syn_counts(&[Passive], DATA));
    }
    Ok(())
}

/// The kernel drops these: `ip_rcv_core`, `ip6_rcv_core`, `tcp_v4_rcv`.
#[test]
fn headers_that_contradict_themselves_are_not_read() -> Result<()> {
    let program = program()?;
    let (v4, v6) = (good(V4).frame(), good(V6).frame());
    for (name, frame) in [
        ("IPv4 with version 5", with(&v4, ETHERNET, &[0x55])),
        ("IPv4 header of 16 bytes", with(&v4, ETHERNET, &[0x44])),
        (
            "IPv4 packet shorter than its header",
            with(&v4, ETHERNET + 2, &[0, 19]),
        ),
        (
            "IPv4 packet longer than the frame",
            with(&v4, ETHERNET + 2, &[1, 0]),
        ),
        (
            "IPv4 packet that ends in TCP's header",
            with(&v4, ETHERNET + 2, &[0, 40]),
        ),
        ("IPv6 with version 4", with(&v6, ETHERNET, &[0x40])),
        (
            "IPv6 packet longer than the frame",
            with(&v6, ETHERNET + 4, &[1, 0]),
        ),
        (
            "IPv6 packet that ends in TCP's header",
            with(&v6, ETHERNET + 4, &[0, 20]),
        ),
        (
            "TCP header of 16 bytes over IPv4",
            with(&v4, tcp(V4) + TCP_OFFSET, &[0x40]),
        ),
        (
            "TCP header of 16 bytes over IPv6",
            with(&v6, tcp(V6) + TCP_OFFSET, &[0x40]),
        ),
        (
            "TCP header of 60 bytes over IPv4",
            with(&v4, tcp(V4) + TCP_OFFSET, &[0xf0]),
        ),
        (
            "TCP header of 60 bytes over IPv6",
            with(&v6, tcp(V6) + TCP_OFFSET, &[0xf0]),
        ),
    ] {
        assert_eq!(program.count(&frame)?, unparsed(), "{name}");
    }
    Ok(())
}

#[test]
fn other_frames_count_nothing() -> Result<()> {
    let program = program()?;
    let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut udp = Vec::new();
    ethernet()
        .ipv4([192, 0, 2, 7], [198, 51, 100, 2], 64)
        .udp(50_000, 443)
        .write(&mut udp, &[2; 100])?;
    let mut udp6 = Vec::new();
    ethernet()
        .ipv6([7; 16], [8; 16], 64)
        .udp(50_000, 443)
        .write(&mut udp6, &[2; 100])?;
    let mut ping = Vec::new();
    ethernet()
        .ipv4([192, 0, 2, 7], [198, 51, 100, 2], 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut ping, &[2; 56])?;
    let mut ping6 = Vec::new();
    ethernet()
        .ipv6([7; 16], [8; 16], 64)
        .icmpv6_echo_request(1, 2)
        .write(&mut ping6, &[2; 56])?;
    let not_ip = |ether_type: u16| with(&good(V4).frame(), 12, &ether_type.to_be_bytes());
    for frame in [
        udp,
        udp6,
        ping,
        ping6,
        not_ip(0x0806),
        not_ip(0x88cc),
        not_ip(0x0010),
    ] {
        assert_eq!(program.count(&frame)?, Counted::nothing());
    }
    Ok(())
}

#[test]
fn port_0_counts_at_no_port() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        let (client, server) = flow.ends(0);
        let counted = program.count(&Segment::syn(client, server).frame())?;
        assert_eq!(counted, Counted::at_no_port(&[(Syns, 1)]));
    }
    Ok(())
}

/// A driver puts a frame that is larger than a page into several buffers, of which the program sees
/// the first.
#[test]
fn a_frame_in_several_buffers_is_not_read() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        let frame = good(flow).data(&[b'+'; 8000]).frame();
        assert_eq!(program.count(&frame)?, unparsed());
    }
    Ok(())
}
