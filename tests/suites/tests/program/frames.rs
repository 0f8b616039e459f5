//! Frames that are SYNs, frames that are not, and frames that are not parsed.

use anyhow::Result;
use bytes::Bytes;
use etherparse::{EtherType, PacketBuilder};
use tfo_common::counters::Counter::{CookieReqd, Passive, Syns};
use tfo_testbed::{
    packet::{Segment, fast_open, flag, linux_options},
    program::{Counted, Program},
};

use crate::flow::{FLOWS, Flow, PRIMARY, V4, V6, syn_counts, unparsed};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Offset of data offset and flags in the TCP header.
const TCP_OFFSET: usize = 12;

const DATA: &[u8] = b"GET /";

fn program() -> Result<Program> {
    Program::with_keys(&[PRIMARY])
}

/// A SYN with a valid cookie and data.
fn good(flow: Flow) -> Segment {
    flow.syn()
        .options(&linux_options(&fast_open(&flow.cookie(&PRIMARY))))
        .data(DATA)
}

/// Offset of the TCP header in the frame.
fn tcp(flow: Flow) -> usize {
    ETHERNET + if flow.client.is_ipv4() { IPV4 } else { IPV6 }
}

/// A copy of the frame with `bytes` at offset `at`.
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

/// Bit 8 of the flags, in the byte of the data offset: the nonce sum in the past, accurate ECN today.
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

#[test]
fn vlan_tags_are_passed_over() -> Result<()> {
    const KINDS: [EtherType; 2] = [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING];
    let program = program()?;
    for flow in FLOWS {
        for outer in KINDS {
            let once = good(flow).vlan(outer);
            let counted = program.count(&once.frame())?;
            assert_eq!(counted, syn_counts(&[Passive], DATA), "{outer:?}");
            for inner in KINDS {
                let twice = once.clone().vlan(inner);
                let counted = program.count(&twice.frame())?;
                assert_eq!(
                    counted,
                    syn_counts(&[Passive], DATA),
                    "{outer:?}, {inner:?}"
                );
                let thrice = twice.vlan(outer).frame();
                assert_eq!(program.count(&thrice)?, unparsed(), "{outer:?} again");
            }
        }
    }
    Ok(())
}

/// Extension headers that the parser skips.
const HOP_BY_HOP: (u8, &[u8]) = (0, &[1, 4, 0, 0, 0, 0]);
const ROUTING: (u8, &[u8]) = (43, &[0; 6]);
const ATOMIC: (u8, &[u8]) = (44, &[0, 6, 1, 2, 3, 4]);
const DESTINATION: (u8, &[u8]) = (60, &[0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

fn extended(headers: &[(u8, &[u8])]) -> Segment {
    let add = |segment: Segment, (kind, value): &(u8, &[u8])| segment.extension(*kind, value);
    headers.iter().fold(good(V6), add)
}

#[test]
fn extension_headers_are_passed_over() -> Result<()> {
    let program = program()?;
    // The most options that the kernel takes: it does not know them, and passes over them.
    let unknown = [&[0x1e, 253][..], &[0xff; 253]].concat();
    let longest = [&unknown.repeat(8)[..], &[1, 4, 0, 0, 0, 0]].concat();
    for headers in [
        &[HOP_BY_HOP][..],
        &[ROUTING],
        &[ATOMIC],
        &[DESTINATION],
        &[(0, &longest)],
        &[HOP_BY_HOP, DESTINATION, ROUTING, ATOMIC, DESTINATION],
        &[DESTINATION; 6],
    ] {
        let frame = extended(headers).frame();
        let counted = program.count(&frame)?;
        assert_eq!(counted, syn_counts(&[Passive], DATA), "{headers:?}");
    }
    Ok(())
}

/// Frames that may be SYNs to the kernel: the program counts them as not parsed.
#[test]
fn frames_that_are_not_read() -> Result<()> {
    let program = program()?;
    for (name, segment) in [
        ("first fragment", good(V4).fragment(0, true)),
        ("middle fragment", good(V4).fragment(8, true)),
        ("last fragment", good(V4).fragment(8, false)),
        (
            "first fragment, IPv6",
            extended(&[(44, &[0, 1, 0, 0, 0, 0])]),
        ),
        (
            "last fragment, IPv6",
            extended(&[(44, &[0, 8, 0, 0, 0, 0])]),
        ),
        ("a hop to go", extended(&[(43, &[0, 1, 0, 0, 0, 0])])),
        ("mobile routing", extended(&[(43, &[2, 0, 0, 0, 0, 0])])),
        ("segment routing", extended(&[(43, &[4, 0, 0, 0, 0, 0])])),
        // PadN, then the home address option.
        (
            "home address",
            extended(&[(
                60,
                &[
                    1, 2, 0, 0, 201, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7,
                ],
            )]),
        ),
        ("authentication", extended(&[(51, &[0; 6])])),
        ("mobility", extended(&[(135, &[0; 6])])),
        (
            "hop-by-hop in the second place",
            extended(&[DESTINATION, HOP_BY_HOP]),
        ),
        ("seven headers", extended(&[DESTINATION; 7])),
    ] {
        assert_eq!(program.count(&segment.frame())?, unparsed(), "{name}");
    }
    Ok(())
}

#[test]
fn extension_headers_before_other_protocols_count_nothing() -> Result<()> {
    const ICMPV6: u8 = 58;
    const NOTHING: u8 = 59;
    const UDP: u8 = 17;
    let program = program()?;
    for (headers, protocol) in [
        // Headers of a multicast listener report.
        (&[HOP_BY_HOP][..], ICMPV6),
        (&[DESTINATION, ROUTING], NOTHING),
        (&[(44, &[0, 8, 0, 0, 0, 0])], UDP),
    ] {
        let frame = extended(headers).frame();
        let last = ETHERNET + IPV6 + headers[1..].iter().map(|_| 16).sum::<usize>();
        let frame = with(&frame, last, &[protocol]);
        assert_eq!(program.count(&frame)?, Counted::nothing(), "{protocol}");
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
    let tag = EtherType::VLAN_TAGGED_FRAME;
    let frame = extended(&[HOP_BY_HOP, ATOMIC]).vlan(tag).vlan(tag).frame();
    for len in ETHERNET..frame.len() {
        assert_eq!(program.count(&frame[..len])?, unparsed(), "{len} bytes");
    }
    assert_eq!(program.count(&frame)?, syn_counts(&[Passive], DATA));
    Ok(())
}

/// The kernel drops these frames: `ip_rcv_core`, `ip6_rcv_core`, `tcp_v4_rcv`.
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

/// Drivers use several buffers for frames larger than a page. The program reads the first buffer.
#[test]
fn a_frame_in_several_buffers_is_read() -> Result<()> {
    let program = program()?;
    for flow in FLOWS {
        let data = [b'+'; 8000];
        let frame = good(flow).data(&data).frame();
        assert_eq!(program.count(&frame)?, syn_counts(&[Passive], &data));
        // A frame shorter than its IP length is rejected, in one buffer and in several.
        let cut = &frame[..frame.len() - 1];
        assert_eq!(program.count(cut)?, unparsed());
    }
    Ok(())
}
