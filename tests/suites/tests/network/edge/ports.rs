//! Clients that take the port of an earlier connection, of which the host has a socket still.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, flag, linux_options},
    poll::eventually,
    socket::{Connection, Listener},
    tfo::LIMIT,
    veth::Family,
};

use super::{
    VIPS,
    farm::{Farm, Member, PORT, service},
    strangers::{challenge, frame, stranger},
};
use crate::guard::set_rules;

const CLIENT_PORT: u16 = 40_000;
const GREETING: &[u8] = b"220 ready";
const REQUEST: &[u8] = b"HELO";

/// Who sends the first data.
#[derive(Clone, Copy, Debug)]
enum First {
    Client,
    Server,
}

/// A service of one host, and its client.
struct Service {
    farm: Farm,
    listener: Listener,
}

impl Service {
    fn new() -> Result<Self> {
        let farm = Farm::guarded(1, 1, "tc")?;
        let any = SocketAddr::new(IpAddr::V6(0.into()), PORT);
        let listener = Listener::fast_open(&farm.hosts[0].netns, any)?;
        Ok(Self { farm, listener })
    }

    fn host(&self) -> &Member {
        &self.farm.hosts[0]
    }

    /// A connection from the port, and the host's end of it.
    fn open(&self, family: Family, first: First) -> Result<(Connection, Connection)> {
        let client = Connection::open_from(&self.farm.client.netns, CLIENT_PORT, service(family))?;
        // The host has a connection only once an ACK arrived there; a client that has nothing to say sends no other.
        if matches!(first, First::Client) {
            client.send(REQUEST)?;
        }
        let server = self.listener.accept().context("the host")?;
        if matches!(first, First::Client) {
            ensure!(server.receive()? == REQUEST);
        }
        server.send(GREETING)?;
        ensure!(client.receive()? == GREETING);
        Ok((client, server))
    }

    /// The states of the host's sockets with the client's port.
    fn states(&self) -> Result<String> {
        let filter = format!("sport = :{PORT} and dport = :{CLIENT_PORT}");
        let host = &self.host().netns;
        host.done("ss", &["-tanH", "state", "all", &filter])
    }
}

/// Closes the server's end, then the client's.
fn close(client: Connection, server: Connection) -> Result<()> {
    server.finish()?;
    ensure!(client.receive()?.is_empty());
    drop(client);
    ensure!(server.receive()?.is_empty());
    drop(server);
    Ok(())
}

/// The host closed first, and has the connection in `TIME_WAIT`.
#[test]
fn a_port_in_time_wait_is_used_again_at_once() -> Result<()> {
    for timestamps in ["1", "0"] {
        let service = Service::new()?;
        let client = &service.farm.client.netns;
        client.set_sysctl("net.ipv4.tcp_timestamps", timestamps)?;
        for family in Family::BOTH {
            for first in [First::Server, First::Client] {
                for number in 0..5 {
                    let what = || format!("{family}, {first:?} first, {number}");
                    let (client, server) = service.open(family, first).with_context(what)?;
                    close(client, server)?;
                    let states = service.states()?;
                    ensure!(states.contains("TIME-WAIT"), "{states}");
                }
            }
        }
        let host = service.host();
        ensure!(host.count(GuardAccepted)? == 20);
        ensure!(host.count(GuardWrongAcks)? == 0);
    }
    Ok(())
}

/// With `tcp_rfc1337`, the kernel removes nothing in `TIME_WAIT` for a reset: the ACK arrives a second time, and no more.
#[test]
fn what_stays_in_time_wait_makes_no_packet_go_round() -> Result<()> {
    let service = Service::new()?;
    let netns = &service.host().netns;
    netns.set_sysctl("net.ipv4.tcp_rfc1337", "1")?;
    let (client, server) = service.open(Family::V4, First::Server)?;
    close(client, server)?;
    let segments = || netns.snmp("Tcp", "InSegs");
    let before = segments()?;
    let _waits = Connection::open_from(
        &service.farm.client.netns,
        CLIENT_PORT,
        self::service(Family::V4),
    )?;
    eventually("the ACK arrives a second time", LIMIT, || {
        Ok(segments()? >= before + 2)
    })?;
    // No event tells that a packet goes round no more. One that does arrives thousands of times meanwhile.
    thread::sleep(Duration::from_millis(500));
    let arrived = segments()? - before;
    ensure!(arrived < 100, "{arrived} segments");
    Ok(())
}

/// The client lost its power while the connection was open.
#[test]
fn a_client_that_vanished_comes_back_with_its_port() -> Result<()> {
    let service = Service::new()?;
    for family in Family::BOTH {
        for first in [First::Client, First::Server] {
            let (client, server) = service.open(family, first)?;
            client.vanish()?;
            let (client, again) = service
                .open(family, first)
                .with_context(|| format!("{family}, {first:?} first"))?;
            // As the bare kernel has the client do it.
            let error = server
                .receive()
                .expect_err("the earlier connection goes on");
            ensure!(format!("{error:#}").contains("reset"), "{error:#}");
            client.reset()?;
            drop(again);
            eventually("no socket is left", LIMIT, || {
                Ok(service.states()?.is_empty())
            })?;
        }
    }
    Ok(())
}

/// The client's SYN of before the guard was on is not answered yet, and the client opens anew: the host has a request.
#[test]
fn a_client_that_opens_anew_comes_through() -> Result<()> {
    let service = Service::new()?;
    let edge = &service.farm.edges[0];
    let netns = &service.farm.client.netns;
    for family in Family::BOTH {
        edge.tfo
            .done(&[&["guard", "set", "off", "--port", "8080"][..], &VIPS].concat())?;
        set_rules(
            netns,
            "table inet filter { chain in { type filter hook prerouting priority raw; tcp sport 8080 drop; }; }",
        )?;
        let open = || Connection::open_from(netns, CLIENT_PORT, self::service(family));
        open().expect_err("no SYN-ACK arrives");
        let states = service.states()?;
        ensure!(states.contains("SYN-RECV"), "{states}");
        set_rules(netns, "")?;
        service.farm.guard_edge(edge, &[])?;
        let (client, server) = service.open(family, First::Server)?;
        client.reset()?;
        drop(server);
        eventually("no socket is left", LIMIT, || {
            Ok(service.states()?.is_empty())
        })?;
    }
    Ok(())
}

/// A connection of a stranger.
struct Opened {
    /// The frame that opened it.
    ack: Vec<u8>,
    /// The host's end.
    host: Connection,
    /// The options of the stranger's segments.
    options: Vec<u8>,
    /// The host's next sequence number.
    sent: u32,
}

/// The ACK of a handshake that arrives once more resets neither its own connection, nor, once that is over, a later one.
#[test]
fn an_ack_that_arrives_late_resets_nothing() -> Result<()> {
    let farm = Farm::guarded(1, 1, "tc")?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::All)?;
    let listener = Listener::fast_open(&host.netns, SocketAddr::new(Family::V4.vip(), PORT))?;
    // Opens a connection with this first sequence number and clock; gives the ACK and the host's end.
    let open = |client: SocketAddr, sequence: u32, clock: u32| -> Result<Opened> {
        let clock = clock.to_be_bytes();
        let mut options = linux_options(&[]).to_vec();
        let at = options.windows(2).position(|pair| pair == [8, 10]);
        let at = at.context("no timestamps")? + 2;
        options[at..at + 4].copy_from_slice(&clock);
        let syn = Segment::syn(client, service(Family::V4)).options(&options);
        link.send(&frame(&syn.numbers(sequence, 0), edge)?)?;
        let challenge = challenge(&link, client)?;
        let mut options = b"\x01\x01\x08\x0a".to_vec();
        options.extend(clock);
        options.extend(challenge.clock.context("no timestamps")?.to_be_bytes());
        let ack = Segment::new(client, service(Family::V4), flag::ACK)
            .numbers(sequence + 1, challenge.sequence.wrapping_add(1))
            .options(&options);
        let ack = frame(&ack, edge)?;
        link.send(&ack)?;
        Ok(Opened {
            ack,
            host: listener.accept()?,
            options,
            sent: challenge.sequence.wrapping_add(1),
        })
    };
    let client = stranger(7);
    let mut others = (8..).map(stranger);
    // One that comes behind the late ACK is open, so that has arrived.
    let mut is_reset = |late: &[u8], connection: &Connection| -> Result<bool> {
        link.send(late)?;
        open(others.next().context("no stranger")?, 1, 1)?;
        Ok(connection.send(GREETING).is_err())
    };
    let first = open(client, 1000, 500)?;
    ensure!(!is_reset(&first.ack, &first.host)?, "its own connection");
    let second = open(client, 1_000_000, 600)?;
    ensure!(
        is_reset(&first.ack, &first.host)?,
        "two connections at once"
    );
    ensure!(!is_reset(&first.ack, &second.host)?, "a later connection");
    ensure!(host.count(GuardAccepted)? == 5, "{:?}", host.tfo.stats()?);

    // The host closes first.
    let last = open(stranger(6), 5000, 700)?;
    last.host.finish()?;
    let close = Segment::new(stranger(6), service(Family::V4), flag::ACK | flag::FIN)
        .numbers(5001, last.sent.wrapping_add(1))
        .options(&last.options);
    link.send(&frame(&close, edge)?)?;
    ensure!(last.host.receive()?.is_empty());
    drop(last.host);
    let time_wait = || host.netns.done("ss", &["-tanH", "state", "time-wait"]);
    eventually("the host has it in TIME_WAIT", LIMIT, || {
        Ok(time_wait()?.contains("11.0.0.6"))
    })?;
    let other = open(stranger(1000), 1, 1)?;
    is_reset(&last.ack, &other.host)?;
    ensure!(time_wait()?.contains("11.0.0.6"), "TIME_WAIT is gone");
    ensure!(host.count(GuardAccepted)? == 8, "a late ACK opened one");
    ensure!(host.count(GuardWrongAcks)? == 0);
    Ok(())
}
