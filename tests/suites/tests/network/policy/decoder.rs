//! Rewritten SYNs in an independent decoder: checksums are valid, and the options are the expected ones. With
//! checksum offload, the field still has the pseudo-header's sum.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::policy::{Action, Class};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    netns::{Netns, wait_until_up},
    packet::{Segment, experimental, fast_open},
    policy::{everywhere, put_in_force, rule},
    process,
    testbed::Testbed,
    tshark::{self, Decoded, Link},
    tun::Tun,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE},
};

const LIMIT: Duration = Duration::from_secs(5);
const COOKIE: &[u8] = b"no good.";
const ETHERNET: usize = 14;
const CHECKSUM: usize = 16;

/// A SYN to rewrite.
#[derive(Clone, Copy, Debug)]
struct Case {
    action: Action,
    family: Family,
    kind: u8,
    /// Number of no-operations before the option.
    before: usize,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for action in [Action::Reissue, Action::Fallback, Action::Pass] {
            for family in Family::BOTH {
                for kind in [34, 254] {
                    all.extend([0, 1].map(|before| Self {
                        action,
                        family,
                        kind,
                        before,
                    }));
                }
            }
        }
        all
    }

    fn segment(self, source: SocketAddr, server: SocketAddr) -> Segment {
        let option = match self.kind {
            34 => fast_open(COOKIE),
            _ => experimental(COOKIE),
        };
        let mut options = b"\x02\x04\x05\xb4".to_vec();
        options.resize(4 + self.before, 1);
        options.extend(&option);
        options.resize(options.len().next_multiple_of(4), 1);
        // Data of an odd length: the checksum pads the last word.
        Segment::syn(source, server)
            .options(&options)
            .data(b"crumb")
    }

    fn expected(self) -> Decoded {
        // No-operations replace what the action removes, and pad the list.
        let (option, cookie) = match self.kind {
            34 => (2, COOKIE.len()),
            _ => (4, COOKIE.len()),
        };
        let padding = (4 - (self.before + option + cookie) % 4) % 4;
        let (kept, blanks) = match self.action {
            Action::Pass | Action::Drop | Action::Once => (true, 0),
            Action::Reissue => (true, cookie),
            Action::Fallback => (false, option + cookie),
        };
        let mut kinds = vec![2];
        kinds.resize(1 + self.before, 1);
        kinds.extend(kept.then_some(self.kind));
        kinds.resize(kinds.len() + blanks + padding, 1);
        let digits: Vec<_> = COOKIE.iter().map(|byte| format!("{byte:02x}")).collect();
        Decoded {
            ip_checksum: true,
            checksum: true,
            request: self.action == Action::Reissue,
            cookie: if self.action == Action::Pass {
                digits.concat()
            } else {
                String::new()
            },
            kinds,
            errors: Vec::new(),
        }
    }
}

const fn ip_header(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// The ones' complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo-header, for a packet without IP options or extension headers.
fn pseudo_header(packet: &[u8], family: Family) -> u16 {
    let addresses = match family {
        Family::V4 => &packet[12..20],
        Family::V6 => &packet[8..40],
    };
    let len = (packet.len() - ip_header(family)) as u16;
    sum(&[addresses, &[0, 6], &len.to_be_bytes()].concat())
}

/// A testbed that captures rewritten SYNs.
struct Lookout {
    testbed: Testbed,
    /// Capture sockets for IPv4 and IPv6.
    captures: [LinkSocket; 2],
    server: [SocketAddr; 2],
    /// The host to which the server forwards. It must outlive the captures.
    _sink: Option<Netns>,
    _listener: Option<tfo_testbed::socket::Listener>,
}

fn captures(netns: &Netns, interface: &str) -> Result<[LinkSocket; 2]> {
    Ok([
        LinkSocket::open(netns, interface, Frames::Ipv4)?,
        LinkSocket::open(netns, interface, Frames::Ipv6)?,
    ])
}

impl Lookout {
    /// Captures at the server's own interface, which XDP precedes.
    fn at_the_server(mode: &str) -> Result<Self> {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
        let listener = testbed.listen(Family::V6)?;
        let server = Family::BOTH.map(|family| SocketAddr::new(family.server(), listener.port()));
        Ok(Self {
            captures: captures(&testbed.pair.server, SERVER_INTERFACE)?,
            server,
            _sink: None,
            _listener: Some(listener),
            testbed,
        })
    }

    /// Captures behind the server, which forwards: a capture at its interface would precede TC.
    fn behind_the_server() -> Result<Self> {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", "tc", "--mirror", "packet"])?;
        let sink = behind(&testbed.pair.server)?;
        Ok(Self {
            captures: captures(&sink, SINK)?,
            server: BEHIND.map(|address| SocketAddr::new(address, 443)),
            _sink: Some(sink),
            _listener: None,
            testbed,
        })
    }

    /// Sends the SYN of every case, with or without checksum offload. Returns the captured frames.
    fn look(&self, cases: &[Case], offload: bool) -> Result<Vec<Vec<u8>>> {
        let switch = if offload { "on" } else { "off" };
        let client = &self.testbed.pair.client;
        let mut ethtool = client.command("ethtool");
        process::succeed(ethtool.args(["-K", CLIENT_INTERFACE, "tx", switch]), LIMIT)?;
        let link = LinkSocket::open(client, CLIENT_INTERFACE, Frames::None)?;
        link.leave_checksums()?;
        let mut frames = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            let policy = everywhere(rule(Class::Bad, case.action));
            self.testbed.set_policy(Some(policy))?;
            let family = case.family as usize;
            let source = case.family.spare(1);
            self.testbed.pair.set_neighbour(source, NOBODYS_MAC)?;
            // Each from its own port: retransmissions are not rewritten.
            let port = u16::try_from(index)? + if offload { 41_000 } else { 40_000 };
            let syn = case.segment(SocketAddr::new(source, port), self.server[family]);
            let mut frame = syn.frame().to_vec();
            let tcp = ETHERNET + ip_header(case.family);
            let partial = pseudo_header(&frame[ETHERNET..], case.family);
            frame[tcp + CHECKSUM..][..2].copy_from_slice(&partial.to_be_bytes());
            link.send_partial(&frame, tcp as u16)?;
            let seen = segment(&self.captures[family], ETHERNET, case.family);
            frames.push(seen.with_context(|| format!("{case:?}"))?);
        }
        Ok(frames)
    }

    fn check(&self) -> Result<()> {
        let cases = Case::all();
        for offload in [false, true] {
            let mut frames = self.look(&cases, offload)?;
            if offload {
                for (case, frame) in cases.iter().zip(&mut frames) {
                    complete(frame, *case).with_context(|| format!("{case:?}"))?;
                }
            }
            check(Link::Ethernet, &cases, frames).with_context(|| format!("offload {offload}"))?;
        }
        let errors = self.testbed.pair.server.snmp("Tcp", "InCsumErrors")?;
        ensure!(errors == 0, "the kernel refused {errors} checksums");
        Ok(())
    }
}

/// The next TCP segment, with `link` bytes of link-layer header. Skips neighbour discovery and multicast reports.
fn segment(capture: &LinkSocket, link: usize, family: Family) -> Result<Vec<u8>> {
    const TCP: u8 = 6;
    let protocol = link + if family == Family::V4 { 9 } else { 6 };
    loop {
        let frame = capture.receive(LIMIT)?.context("no segment arrived")?;
        if frame.get(protocol) == Some(&TCP) {
            return Ok(frame);
        }
    }
}

/// Completes the checksum as a network card does: over the segment, including the field, which must have the sum of
/// the pseudo-header.
fn complete(frame: &mut [u8], case: Case) -> Result<()> {
    let tcp = ETHERNET + ip_header(case.family);
    let partial = pseudo_header(&frame[ETHERNET..], case.family);
    let field = &frame[tcp + CHECKSUM..][..2];
    ensure!(
        field == partial.to_be_bytes(),
        "{field:02x?} is not {partial:04x}"
    );
    let whole = !sum(&frame[tcp..]);
    frame[tcp + CHECKSUM..][..2].copy_from_slice(&whole.to_be_bytes());
    Ok(())
}

/// Compares the decoded frames with the expected ones, and checks that the decoder detects a corrupted frame.
fn check(link: Link, cases: &[Case], mut frames: Vec<Vec<u8>>) -> Result<()> {
    let mut spoiled = frames.first().context("no frame")?.clone();
    *spoiled.last_mut().context("no byte")? ^= 1;
    frames.push(spoiled);
    let mut decoded = tshark::decode(link, &frames)?;
    let spoiled = decoded.pop().context("no spoiled frame")?;
    ensure!(
        !spoiled.checksum && spoiled.errors.len() == 1,
        "{spoiled:?}"
    );
    for (case, decoded) in cases.iter().zip(&decoded) {
        let expected = case.expected();
        ensure!(
            *decoded == expected,
            "{case:?}: expected {expected:?}\n got {decoded:?}"
        );
    }
    Ok(())
}

/// An interface behind the server, and the addresses there.
const SINK: &str = "sink0";
const BEHIND: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 79, 0, 2)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 0, 2)),
];

/// A host behind `server`, which forwards to it.
fn behind(server: &Netns) -> Result<Netns> {
    let sink = Netns::new("sink")?;
    let [v4, v6] = BEHIND;
    server.set_sysctl("net.ipv4.ip_forward", "1")?;
    server.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
    server.configure(&[
        format!(
            "link add out0 type veth peer name {SINK} netns {}",
            sink.name()
        ),
        "link set out0 up".to_owned(),
        "addr add 10.79.0.1/24 dev out0".to_owned(),
        "addr add fd79::1/64 dev out0 nodad".to_owned(),
        format!("neigh replace {v4} lladdr 02:00:00:00:00:98 dev out0 nud permanent"),
        format!("neigh replace {v6} lladdr 02:00:00:00:00:98 dev out0 nud permanent"),
    ])?;
    sink.configure(&[format!("link set {SINK} up")])?;
    wait_until_up(server, "out0")?;
    wait_until_up(&sink, SINK)?;
    Ok(sink)
}

#[test]
fn native_xdp() -> Result<()> {
    Lookout::at_the_server("native")?.check()
}

#[test]
fn generic_xdp() -> Result<()> {
    Lookout::at_the_server("generic")?.check()
}

#[test]
fn traffic_control() -> Result<()> {
    Lookout::behind_the_server()?.check()
}

/// A TUN device, which has no Ethernet headers: captured behind generic XDP at ingress, and behind TC after
/// forwarding.
#[test]
fn tun() -> Result<()> {
    for mode in ["tc", "generic"] {
        check_tun(mode).with_context(|| mode.to_owned())?;
    }
    Ok(())
}

fn check_tun(mode: &str) -> Result<()> {
    const INTERFACE: &str = "tun0";
    let server = Netns::new("tun")?;
    let sink = behind(&server)?;
    let tun = Tun::new(&server, INTERFACE)?;
    let mut setup = vec![format!("link set {INTERFACE} up")];
    for family in Family::BOTH {
        let bits = if family == Family::V4 { 24 } else { 64 };
        setup.push(format!(
            "addr add {}/{bits} dev {INTERFACE}",
            family.server()
        ));
    }
    server.configure(&setup)?;
    let tfo = tfo_testbed::tfo::Tfo::new(&server);
    tfo.done(&["attach", INTERFACE, "--mode", mode, "--mirror", "packet"])?;
    let (link, header, captures) = match mode {
        "tc" => (Link::Ethernet, ETHERNET, captures(&sink, SINK)?),
        _ => (Link::Raw, 0, captures(&server, INTERFACE)?),
    };
    let cases = Case::all();
    let mut frames = Vec::new();
    for case in &cases {
        let policy = everywhere(rule(Class::Bad, case.action));
        put_in_force(&server, Some(policy))?;
        let family = case.family as usize;
        let source = SocketAddr::new(case.family.client(), 40_000);
        let syn = case.segment(source, SocketAddr::new(BEHIND[family], 443));
        tun.receive(&syn.packet())?;
        let seen = segment(&captures[family], header, case.family);
        frames.push(seen.with_context(|| format!("{case:?}"))?);
    }
    check(link, &cases, frames)
}
