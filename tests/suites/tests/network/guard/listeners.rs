//! The guard with every kind of listener: it challenges for those that accept a proof, and leaves the others alone.

use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use tfo_common::counters::Counter::{self, *};
use tfo_testbed::{
    poll::eventually,
    raw::RawSyn,
    socket::{Connection, LIMIT, Listener, Method},
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use super::{
    stranger::Stranger,
    testbed::{Ends, GuardTestbed, grown, in_each_mode},
};

const CHALLENGED: [(Counter, u64); 2] = [(GuardChallenged, 1), (GuardAccepted, 1)];

/// A server with the guard on at every port.
struct Yard {
    testbed: GuardTestbed,
    family: Family,
}

impl Yard {
    fn new(mode: Mode, family: Family) -> Result<Self> {
        let testbed = GuardTestbed::new(mode)?;
        let tfo = &testbed.base.tfo;
        tfo.done(&["guard", "set", "on", "--replies", "unlimited"])?;
        Ok(Self { testbed, family })
    }

    fn pair(&self) -> &Pair {
        &self.testbed.base.pair
    }

    /// A listener of the server at `address`. `with` sets socket options before bind(2).
    fn listen(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        with: impl Fn(&Socket) -> std::io::Result<()> + Sync,
    ) -> Result<Listener> {
        self.pair().server.run(|| {
            let domain = Domain::for_address(address);
            let socket = Socket::new(domain, Type::STREAM, Some(protocol))?;
            with(&socket)?;
            socket.bind(&address.into())?;
            Listener::of(socket)
        })
    }

    /// The wildcard address, with any port.
    fn any(&self) -> SocketAddr {
        SocketAddr::new(self.family.unspecified(), 0)
    }

    /// Connects to `listener`, and checks the increase of the guard's counters.
    fn visit(&self, listener: &Listener, expected: &[(Counter, u64)]) -> Result<Ends> {
        let before = self.testbed.counters()?;
        let ends = Ends::connect(self.pair(), listener, self.family, Method::Plain)?;
        let grown = grown(&before, &self.testbed.counters()?);
        ensure!(grown == expected, "{grown:?}");
        Ok(ends)
    }

    /// Fails unless the client is refused at `port` and the guard counts nothing.
    fn ensure_closed(&self, port: u16) -> Result<()> {
        let before = self.testbed.counters()?;
        let server = server_port(self.family, port);
        let refused = Connection::open(&self.pair().client, server, Method::Plain, b"?");
        let error = refused.err().context("the client was not refused")?;
        ensure!(format!("{error:#}").contains("refused"), "{error:#}");
        let grown = grown(&before, &self.testbed.counters()?);
        ensure!(grown.is_empty(), "{grown:?}");
        Ok(())
    }
}

fn each(mode: Mode, check: impl Fn(&Yard) -> Result<()>) -> Result<()> {
    for family in Family::BOTH {
        let yard = Yard::new(mode, family)?;
        check(&yard).with_context(|| family.to_string())?;
    }
    Ok(())
}

fn who_takes_no_proof_is_left_alone(mode: Mode) -> Result<()> {
    each(mode, |yard| {
        let unfit = [(GuardUnfit, 1)];
        let mptcp = yard.listen(yard.any(), Protocol::MPTCP, |_| Ok(()))?;
        yard.visit(&mptcp, &unfit).context("MPTCP")?;
        let signed = yard.listen(yard.any(), Protocol::TCP, |_| Ok(()))?;
        yard.visit(&signed, &CHALLENGED).context("unsigned")?;
        signed.expect_signatures(yard.family.spare(1))?;
        yard.visit(&signed, &unfit).context("TCP-MD5")?;
        // The kfunc requires SYN cookies.
        let server = &yard.pair().server;
        server.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
        let plain = yard.listen(yard.any(), Protocol::TCP, |_| Ok(()))?;
        yard.visit(&plain, &unfit).context("no SYN cookies")?;
        server.set_sysctl("net.ipv4.tcp_syncookies", "1")?;
        yard.visit(&plain, &CHALLENGED).map(drop)
    })
}

fn a_listener_is_found_wherever_it_is_bound(mode: Mode) -> Result<()> {
    each(mode, |yard| {
        let tcp = Protocol::TCP;
        let device =
            |name: &'static str| move |socket: &Socket| socket.bind_device(Some(name.as_bytes()));
        let here = yard.listen(yard.any(), tcp, device(SERVER_INTERFACE))?;
        yard.visit(&here, &CHALLENGED).context("own device")?;
        let elsewhere = yard.listen(yard.any(), tcp, device("lo"))?;
        yard.ensure_closed(elsewhere.port())
            .context("another device")?;

        let address = SocketAddr::new(yard.family.server(), 0);
        let one = yard.listen(address, tcp, |_| Ok(()))?;
        yard.visit(&one, &CHALLENGED).context("own address")?;
        let loopback: IpAddr = match yard.family {
            Family::V4 => [127, 0, 0, 1].into(),
            Family::V6 => [0, 0, 0, 0, 0, 0, 0, 1_u16].into(),
        };
        let local = yard.listen(SocketAddr::new(loopback, 0), tcp, |_| Ok(()))?;
        yard.ensure_closed(local.port())
            .context("another address")?;

        let dual = SocketAddr::new(Family::V6.unspecified(), 0);
        let dual = yard.listen(dual, tcp, |socket| socket.set_only_v6(false))?;
        yard.visit(&dual, &CHALLENGED).context("dual-stack")?;
        yard.ensure_closed(1).context("no listener")
    })
}

fn a_group_shares_its_connections(mode: Mode) -> Result<()> {
    const MEMBERS: usize = 4;
    const CONNECTIONS: usize = 60;
    each(mode, |yard| {
        let reuse = |socket: &Socket| socket.set_reuse_port(true);
        let first = yard.listen(yard.any(), Protocol::TCP, reuse)?;
        let address = SocketAddr::new(yard.family.unspecified(), first.port());
        let mut group = vec![first];
        for _ in 1..MEMBERS {
            group.push(yard.listen(address, Protocol::TCP, reuse)?);
        }
        let server = server_port(yard.family, address.port());
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| Connection::open(&yard.pair().client, server, Method::Plain, b"?"))
            .collect::<Result<_>>()?;
        let mut shares = [0; MEMBERS];
        eventually("all are accepted", LIMIT, || {
            for (share, member) in shares.iter_mut().zip(&group) {
                *share += member.reset_all()?;
            }
            Ok(shares.iter().sum::<usize>() == clients.len())
        })?;
        // A listener gets no connection by chance once in 10^7 runs.
        ensure!(!shares.contains(&0), "{shares:?}");
        let accepted = yard.testbed.counters()?.get(GuardAccepted);
        ensure!(accepted == CONNECTIONS as u64, "{accepted}");
        Ok(())
    })
}

/// Waits until the connection has unread data.
fn ensure_unread(connection: &Connection) -> Result<()> {
    let arrived = || Ok(connection.unread()? > 0);
    eventually("the data arrives", LIMIT, arrived).map(drop)
}

/// The guard leaves connections alone that existed before it, and segments that end connections.
fn connections_go_on_and_end_as_ever(mode: Mode) -> Result<()> {
    each(mode, |yard| {
        let tfo = &yard.testbed.base.tfo;
        let listener = yard.listen(yard.any(), Protocol::TCP, |_| Ok(()))?;
        tfo.done(&["guard", "clear"])?;
        let old = yard.visit(&listener, &[])?;
        tfo.done(&["guard", "set", "on"])?;
        let new = yard.visit(&listener, &CHALLENGED)?;
        let before = yard.testbed.counters()?;
        for Ends { client, server } in [&old, &new] {
            client.send(b"still there?")?;
            ensure!(server.receive()? == b"still there?");
            server.send(b"yes")?;
            ensure!(client.receive()? == b"yes");
        }
        // close(2) with unread data resets the connection.
        old.client.send(b"unread")?;
        ensure_unread(&old.server)?;
        drop(old.server);
        let error = old.client.receive().err().context("no reset")?;
        ensure!(format!("{error:#}").contains("reset"), "{error:#}");
        new.server.send(b"unread")?;
        ensure_unread(&new.client)?;
        drop(new.client);
        let error = new.server.receive().err().context("no reset")?;
        ensure!(format!("{error:#}").contains("reset"), "{error:#}");
        let grown = grown(&before, &yard.testbed.counters()?);
        ensure!(grown.is_empty(), "{grown:?}");
        Ok(())
    })
}

/// A client reuses a port whose last connection is in `TIME_WAIT` at the server.
fn a_port_comes_again_out_of_time_wait(mode: Mode) -> Result<()> {
    each(mode, |yard| {
        let listener = yard.listen(yard.any(), Protocol::TCP, |_| Ok(()))?;
        let server = server_port(yard.family, listener.port());
        let mut stranger = Stranger::new(yard.pair(), yard.family, 0, listener.port())?;
        let nothing = RawSyn::plain(&[]);
        stranger
            .raw
            .time_wait(server, &nothing, true, || listener.accept().map(drop))?;
        stranger.raw.advance(0x1_0000);
        let again = stranger.knock_again()?;
        stranger.prove(&again, b"it is I again")?;
        let connection = listener.accept()?;
        ensure!(connection.receive()? == b"it is I again");
        Ok(())
    })
}

/// The second interface is attached after the guard was set.
fn each_of_two_interfaces_is_guarded(mode: Mode) -> Result<()> {
    let yard = Yard::new(mode, Family::V4)?;
    let pair = yard.pair();
    pair.client.configure(&[
        format!(
            "link add client1 type veth peer name server1 netns {}",
            pair.server.name()
        ),
        "link set client1 up".into(),
        "addr add 10.78.0.2/24 dev client1".into(),
    ])?;
    pair.server
        .configure(&["link set server1 up", "addr add 10.78.0.1/24 dev server1"])?;
    let tfo = &yard.testbed.base.tfo;
    tfo.done(&["attach", "server1", "--mode", "generic"])?;
    let listener = yard.listen(yard.any(), Protocol::TCP, |_| Ok(()))?;
    yard.visit(&listener, &CHALLENGED)
        .context("first interface")?;
    let before = yard.testbed.counters()?;
    let second = SocketAddr::new([10, 78, 0, 1].into(), listener.port());
    let client = Connection::open(&pair.client, second, Method::Plain, b"who goes there?")?;
    let server = listener.accept()?;
    ensure!(server.receive()? == b"who goes there?");
    let grown = grown(&before, &yard.testbed.counters()?);
    ensure!(grown == CHALLENGED, "second interface: {grown:?}");
    drop(client);
    Ok(())
}

/// Rust's `TcpListener` sets no special option.
fn rusts_listener(mode: Mode) -> Result<()> {
    let yard = Yard::new(mode, Family::V4)?;
    let any = yard.any();
    let listener = yard.pair().server.run(|| TcpListener::bind(any))?;
    let listener = Listener::of(listener.into())?;
    for _ in 0..10 {
        yard.visit(&listener, &CHALLENGED)?;
    }
    Ok(())
}

in_each_mode! {
    who_takes_no_proof_is_left_alone;
    a_listener_is_found_wherever_it_is_bound;
    a_group_shares_its_connections;
    connections_go_on_and_end_as_ever;
    a_port_comes_again_out_of_time_wait;
    each_of_two_interfaces_is_guarded;
    rusts_listener;
}
