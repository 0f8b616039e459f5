//! Throughput of the whole host over veth, with a program on the receiving interface.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::programs::{XdpMode, xdp::XdpLinkId};
use socket2::SockRef;
use tfo_testbed::{
    netns::Netns,
    testbed::Testbed,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

use crate::{
    data_path::{BACKUP, PRIMARY},
    measure::{Effort, progress, stay_on},
    peers::Peer,
    report::{Plot, Report, Row, Sample, Section, Table},
};

/// Read and write timeout of each end.
const LIMIT: Duration = Duration::from_secs(20);
/// UDP payload of a 60-byte frame.
const SMALL: &[u8] = &[0; 18];

/// A program or ruleset on the server's interface.
enum OnInterface {
    Nothing,
    Xdp(Box<Peer>, Option<XdpLinkId>),
    /// `tfo` in this mode.
    Tfo(&'static str),
    Nftables,
    XdpFilter,
}

impl OnInterface {
    fn attach(&mut self, testbed: &Testbed) -> Result<()> {
        let server = &testbed.pair.server;
        match self {
            Self::Nothing => {}
            Self::Xdp(peer, link) => {
                let program = peer.xdp_mut()?;
                let attached = server.run(|| program.attach(SERVER_INTERFACE, XdpMode::Driver))?;
                *link = Some(attached);
            }
            Self::Tfo(mode) => {
                let attach = ["attach", SERVER_INTERFACE, "--mode", mode];
                testbed.tfo.done(&attach).map(drop)?;
            }
            Self::Nftables => {
                server.done("nft", &[NFTABLES])?;
            }
            Self::XdpFilter => {
                let load = ["load", "-m", "native", SERVER_INTERFACE];
                server.done("xdp-filter", &load)?;
            }
        }
        Ok(())
    }

    fn detach(&mut self, testbed: &Testbed) -> Result<()> {
        let server = &testbed.pair.server;
        match self {
            Self::Nothing => Ok(()),
            Self::Xdp(peer, link) => match link.take() {
                Some(link) => Ok(peer.xdp_mut()?.detach(link)?),
                None => Ok(()),
            },
            Self::Tfo(_) => testbed.tfo.done(&["detach", "--all"]).map(drop),
            Self::Nftables => server.done("nft", &["delete table inet bench"]).map(drop),
            Self::XdpFilter => server
                .done("xdp-filter", &["unload", SERVER_INTERFACE])
                .map(drop),
        }
    }
}

/// Counts SYNs with a Fast Open option by port. nftables does not verify cookies.
const NFTABLES: &str = "table inet bench {\n\
    chain c { type filter hook prerouting priority raw; policy accept;\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists tcp dport 443 counter\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists counter\n\
    tcp flags & (syn | ack) == syn counter\n\
    }\n}";

/// A load. `offer` returns its throughput in `unit`.
struct Load {
    name: &'static str,
    unit: &'static str,
    offer: fn(&Pair, Duration) -> Result<f64>,
}

const LOADS: [Load; 4] = [
    Load {
        name: "UDP flood of small packets",
        unit: "packets received per second",
        offer: udp_flood,
    },
    Load {
        name: "TCP stream",
        unit: "megabytes received per second",
        offer: tcp_stream,
    },
    Load {
        name: "TCP connections",
        unit: "connections accepted per second",
        offer: connections,
    },
    Load {
        name: "TCP requests",
        unit: "round trips per second",
        offer: requests,
    },
];

/// Measures every load with every program that can be attached.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let mut subjects = subjects(&testbed, report)?;
    let mut figures = vec![vec![Vec::new(); subjects.len()]; LOADS.len()];
    for round in 0..=effort.rounds {
        progress("whole host", round, effort);
        for index in 0..subjects.len() {
            let index = (index + round) % subjects.len();
            let (name, subject) = &mut subjects[index];
            subject
                .attach(&testbed)
                .with_context(|| format!("cannot attach: {name}"))?;
            for (load, figures) in LOADS.iter().zip(&mut figures) {
                let figure = (load.offer)(&testbed.pair, effort.load);
                let figure = figure.with_context(|| format!("{} with {name}", load.name))?;
                if round > 0 {
                    figures[index].push(figure);
                }
            }
            subject.detach(&testbed)?;
        }
    }
    let names: Vec<_> = subjects.iter().map(|(name, _)| *name).collect();
    let tables: Vec<_> = LOADS
        .iter()
        .zip(&figures)
        .map(|(load, figures)| table(load, &names, figures))
        .collect();
    Ok(Section {
        title: "The whole host".into(),
        about: vec![ABOUT.into()],
        tables,
        plots: vec![
            plot(0, "udp.svg"),
            plot(1, "stream.svg"),
            plot(2, "connections.svg"),
            plot(3, "requests.svg"),
        ],
    })
}

const ABOUT: &str = "Two namespaces joined by veth; what is compared is on the receiving interface. Sender and receiver share one\n\
    CPU, so that throughput is the inverse of the CPU time that a packet takes in the whole stack.\n\
    `no program again` shows the noise of the run. `tfo` is as `tfo attach` has it: it observes, in traffic control, as\n\
    the row `tfo, traffic control` does that names it. With any native XDP program, veth gives up GRO\n\
    and large segments, and converts every packet to an XDP frame: that is the cost of the empty program. `nftables`\n\
    has no program: it matches `tcp option fastopen` in a prerouting chain and does not verify cookies. `xdp-filter`\n\
    has no rules and passes everything. The UDP flood is counted at the UDP socket, received or dropped. TCP\n\
    connections are opened one after another; the server resets each on accept. TCP requests are one byte and its\n\
    answer, one after another, over one connection.";

fn plot(table: usize, file: &str) -> Plot {
    Plot {
        file: file.into(),
        caption: format!(
            "{}, relative to no program at all (higher is better)",
            LOADS[table].name
        ),
        tables: vec![table],
        over: None,
    }
}

/// The first subject is the baseline.
fn table(load: &Load, names: &[&str], figures: &[Vec<f64>]) -> Table {
    let others = names.iter().zip(figures).skip(1);
    let rows = others.map(|(name, subject)| {
        let rounds = figures[0].iter().zip(subject);
        let samples = rounds.map(|(yardstick, subject)| Sample {
            yardstick: *yardstick,
            subject: *subject,
        });
        Row::paired(*name, &samples.collect::<Vec<_>>())
    });
    Table {
        name: load.name.into(),
        of: "program".into(),
        unit: load.unit.into(),
        yardstick: Some("no program".into()),
        subject: "attached".into(),
        more_is_better: true,
        net: None,
        rows: rows.collect(),
    }
}

/// Everything that can be attached on this machine; first nothing.
fn subjects(testbed: &Testbed, report: &mut Report) -> Result<Vec<(&'static str, OnInterface)>> {
    let xdp = |peer| OnInterface::Xdp(Box::new(peer), None);
    let mut subjects = vec![
        ("no program", OnInterface::Nothing),
        ("no program again", OnInterface::Nothing),
        ("tfo", OnInterface::Tfo("auto")),
        ("tfo, traffic control", OnInterface::Tfo("tc")),
        ("tfo, native XDP", OnInterface::Tfo("native")),
        ("tfo, generic XDP", OnInterface::Tfo("generic")),
        ("empty program, native XDP", xdp(Peer::empty()?)),
    ];
    let c = Peer::c(&[PRIMARY, BACKUP]).map(xdp);
    for (name, subject) in [
        ("C, native XDP", c),
        ("nftables", Ok(OnInterface::Nftables)),
        ("xdp-filter", Ok(OnInterface::XdpFilter)),
    ] {
        let usable = subject.and_then(|mut subject| {
            subject.attach(testbed)?;
            subject.detach(testbed)?;
            Ok(subject)
        });
        let usable = report.had(&format!("{name}, whole host"), usable);
        subjects.extend(usable.map(|subject| (name, subject)));
    }
    Ok(subjects)
}

fn udp_flood(pair: &Pair, time: Duration) -> Result<f64> {
    let server = server_port(Family::V4, 9);
    // Nobody reads: the receive buffer fills at once, and the kernel counts the drops.
    let socket = pair
        .server
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, server.port())))?;
    let before = udp_arrived(&pair.server)?;
    let took = pair.client.run(|| -> Result<_> {
        stay_on(0)?;
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        client.connect(server)?;
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..256 {
                client.send(SMALL)?;
            }
        }
        Ok(start.elapsed())
    })?;
    let arrived = udp_arrived(&pair.server)? - before;
    drop(socket);
    Ok(arrived as f64 / took.as_secs_f64())
}

/// Datagrams that reached UDP: `InDatagrams` plus `InErrors`.
fn udp_arrived(netns: &Netns) -> Result<u64> {
    Ok(netns.snmp("Udp", "InDatagrams")? + netns.snmp("Udp", "InErrors")?)
}

/// Runs `work` on one accepted connection after another until `client` returns.
fn serve<T: Send>(
    pair: &Pair,
    work: impl Fn(TcpStream) -> Result<()> + Sync,
    client: impl FnOnce(SocketAddr) -> Result<T> + Send,
) -> Result<T> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let listener = pair.server.run(|| TcpListener::bind(any))?;
    let address = server_port(Family::V4, listener.local_addr()?.port());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            // On the sender's CPU: a cross-CPU wakeup takes longer than serving, and its duration varies.
            stay_on(0)?;
            loop {
                let (stream, _) = listener.accept()?;
                if done.load(Ordering::Relaxed) {
                    return Ok(());
                }
                work(stream)?;
            }
        });
        let result = pair.client.run(|| {
            let result = stay_on(0).and_then(|()| client(address));
            done.store(true, Ordering::Relaxed);
            // Unblocks the server's accept(2).
            drop(TcpStream::connect(address));
            result
        });
        let ended = server.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result
    })
}

fn tcp_stream(pair: &Pair, time: Duration) -> Result<f64> {
    let read = |mut stream: TcpStream| {
        let mut buffer = vec![0; 1 << 17];
        let mut sum = 0_u64;
        loop {
            match stream.read(&mut buffer)? {
                0 => break Ok(stream.write_all(&sum.to_le_bytes())?),
                len => sum += len as u64,
            }
        }
    };
    serve(pair, read, |address| {
        let mut stream = TcpStream::connect(address)?;
        // Do not hang if the server has failed.
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let buffer = vec![0; 1 << 17];
        let start = Instant::now();
        while start.elapsed() < time {
            stream.write_all(&buffer)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut received = [0; 8];
        stream.read_exact(&mut received)?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(u64::from_le_bytes(received) as f64 / 1e6 / seconds)
    })
}

fn connections(pair: &Pair, time: Duration) -> Result<f64> {
    let reset = |stream: TcpStream| {
        // Reset on close, so that no port stays in TIME_WAIT.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    };
    serve(pair, reset, |address| {
        let start = Instant::now();
        let mut count = 0_u32;
        // One at a time: with a full accept queue, a SYN is dropped and retransmitted after a second.
        let connect = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.read(&mut [0])
        };
        while start.elapsed() < time {
            match connect() {
                // The reset may arrive before connect(2) returns.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => count += 1,
                other => bail!("the server did not reset: {other:?}"),
            }
        }
        Ok(f64::from(count) / start.elapsed().as_secs_f64())
    })
}

fn requests(pair: &Pair, time: Duration) -> Result<f64> {
    let echo = |mut stream: TcpStream| {
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    };
    serve(pair, echo, |address| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let start = Instant::now();
        let mut count = 0_u32;
        while start.elapsed() < time {
            stream.write_all(&[0])?;
            stream.read_exact(&mut [0])?;
            count += 1;
        }
        Ok(f64::from(count) / start.elapsed().as_secs_f64())
    })
}
