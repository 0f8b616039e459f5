//! A million sources with bad cookies against limits by source: clients with a valid cookie are served, and no map
//! grows.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter,
    policy::{Action, Class, Limit},
    rate::Rate,
};
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, fast_open, linux_options},
    policy::{everywhere, rule},
    poll::eventually,
    seed::rng,
    socket::Method,
    testbed::Testbed,
    tfo::Stats,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, SERVER_INTERFACE},
};
use tfo_userspace::{
    datapath::{Memory, Namespace},
    model::{LimitedSources, Policy},
};

const SOURCES: u64 = 1_000_000;
/// Time limit of the flood.
const LIMIT: Duration = Duration::from_secs(90);
/// Number of sources that the limits track.
const REMEMBERED: u32 = 4096;

/// A SYN whose source changes without a new checksum: the source port (and the identification field for the IPv4
/// header's own checksum) compensates for it.
struct Frame {
    bytes: Vec<u8>,
    /// Offset and length of the part of the address that changes.
    address: (usize, usize),
    /// Offsets of the words that compensate.
    balance: Vec<usize>,
}

impl Frame {
    fn new(family: Family, port: u16) -> Self {
        let source = match family {
            Family::V4 => Ipv4Addr::new(11, 0, 0, 0).into(),
            Family::V6 => Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0).into(),
        };
        let syn = Segment::syn(
            SocketAddr::new(source, 40_000),
            SocketAddr::new(family.server(), port),
        );
        let syn = syn.options(&linux_options(&fast_open(b"no good.")));
        let bytes = syn.data(b"what is the time?").frame().to_vec();
        let (address, balance) = match family {
            Family::V4 => ((28, 2), vec![18, 34]),
            Family::V6 => ((24, 6), vec![54]),
        };
        Self {
            bytes,
            address,
            balance,
        }
    }

    fn word(&mut self, at: usize) -> &mut [u8; 2] {
        self.bytes[at..].first_chunk_mut().expect("inside")
    }

    /// Sets a random source.
    fn randomize(&mut self, random: &mut fastrand::Rng) {
        let (at, len) = self.address;
        for at in (at..at + len).step_by(2) {
            let new = random.u16(..);
            let word = self.word(at);
            let old = u16::from_be_bytes(*word);
            *word = new.to_be_bytes();
            for place in self.balance.clone() {
                // Ones' complement: subtract the new word, add the old one.
                let word = self.word(place);
                let sum = u32::from(u16::from_be_bytes(*word)) + u32::from(!new) + u32::from(old);
                let sum = (sum & 0xffff) + (sum >> 16);
                *word = (((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes();
            }
        }
    }
}

fn seen(testbed: &Testbed) -> Result<u64> {
    Ok(testbed.drift()?.ours.total.get(Counter::SynsWithData))
}

/// Sends until the data path has counted all SYNs.
fn flood(testbed: &Testbed, port: u16) -> Result<()> {
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::None)?;
    let mut frames = Family::BOTH.map(|family| Frame::new(family, port));
    let mut random = rng()?;
    eventually("a million SYNs are seen", LIMIT, || {
        for _ in 0..10_000 {
            for frame in &mut frames {
                frame.randomize(&mut random);
                match link.send(&frame.bytes) {
                    // The queue of the interface is full.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        thread::yield_now();
                    }
                    sent => sent?,
                }
            }
        }
        Ok(seen(testbed)? >= SOURCES)
    })
    .map(drop)
}

fn policy() -> Policy {
    let limit = |source, port| Limit {
        source: Rate {
            per_second: source,
            burst: source,
        },
        port: Rate {
            per_second: port,
            burst: port,
        },
    };
    let mut port = rule(Class::Bad, Action::Drop);
    port.limits = [
        // More than the honest clients reach on any machine.
        limit(100_000, 100_000),
        // Each source has a bucket of its own. Few send again within a second; their SYNs go on to the kernel.
        limit(1, 0),
        limit(100_000, 100_000),
        Limit::default(),
    ];
    Policy {
        sources: LimitedSources {
            max: REMEMBERED,
            v6: 128,
            ..LimitedSources::default()
        },
        ..everywhere(port)
    }
}

fn memory(testbed: &Testbed) -> Result<Memory> {
    testbed
        .pair
        .server
        .run(|| Ok(Namespace::current()?.memory()?))
}

#[test]
fn a_million_sources_leave_honest_clients_served() -> Result<()> {
    let testbed = Testbed::new()?;
    // Answers to the flood go to an unused MAC address.
    for family in Family::BOTH {
        testbed.pair.set_neighbour(family.spare(0), NOBODYS_MAC)?;
        let route = format!(
            "route add default via {} dev {SERVER_INTERFACE}",
            family.spare(0)
        );
        testbed.pair.server.configure(&[route])?;
    }
    let listeners = [testbed.listen(Family::V4)?, testbed.listen(Family::V6)?];
    let flooded = testbed.listen(Family::V6)?;
    for (family, listener) in Family::BOTH.into_iter().zip(&listeners) {
        testbed.request_cookie(listener, family)?;
    }
    testbed.set_policy(Some(policy()))?;
    let requests = |stats: &Stats| stats.counters["TCPFastOpenCookieReqd"];
    let requests_before = requests(&testbed.equal()?);
    let client = TcpExt::read(&testbed.pair.client)?;
    let before = memory(&testbed)?;
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let (in_syn, connections) = thread::scope(|scope| -> Result<_> {
        let honest = scope.spawn(|| -> Result<_> {
            let (mut in_syn, mut connections) = (0_u32, 0_u32);
            while !done.load(Ordering::Relaxed) {
                for (family, listener) in Family::BOTH.into_iter().zip(&listeners) {
                    let exchange = testbed.exchange(listener, family, Method::SendTo);
                    let exchange = exchange.with_context(|| format!("{family}"))?;
                    in_syn += u32::from(exchange.in_syn);
                    connections += 1;
                }
            }
            Ok((in_syn, connections))
        });
        let flooded = flood(&testbed, flooded.port());
        done.store(true, Ordering::Relaxed);
        let honest = honest.join().expect("no panic");
        flooded?;
        honest
    })?;
    let took = start.elapsed();
    let stats = testbed.equal()?;
    println!("{in_syn} of {connections} connections in the SYN, {took:?}: {stats:?}");
    let count = |counter: Counter| stats.counters.get(counter.name()).copied().unwrap_or(0);
    // A SYN lost to a full queue is retransmitted without Fast Open. And all namespaces share the hash table of
    // tcp_metrics: the kernel may evict a client's cookie for another test's, and the client requests one again.
    let client = TcpExt::read(&testbed.pair.client)?.since(&client);
    let sent_again = client.get("TCPSynRetrans");
    let requested = requests(&stats) - requests_before;
    ensure!(
        in_syn > 0 && i64::from(connections - in_syn) <= sent_again.cast_signed() + requested,
        "{in_syn} of {connections} in the SYN, {sent_again} SYNs sent again, {requested} requests"
    );
    ensure!(count(Counter::PolicyDrop) > 800_000, "{stats:?}");
    let after = memory(&testbed)?;
    println!("{after:?}");
    ensure!(after == before, "before {before:?}\nafter {after:?}");
    ensure!(
        after.contains_key("policy_limits_in_force"),
        "the limits are not among {after:?}"
    );
    Ok(())
}
