//! The action `once`: the data of a SYN is delivered at most once, however often the SYN comes.

use std::{collections::HashMap, net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{IpFragOffset, Ipv4Header};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tfo_common::policy::{Action, Class, once::OnceBy};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, fast_open, flag},
    policy::{everywhere, rule},
    raw::{Answer, RawClient, RawSyn},
    socket::{Connection, Listener, Method},
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
};
use tfo_userspace::model::{OnceMemory, Policy, PortPolicy};

/// Times that a SYN is sent again.
const COPIES: i32 = 20;

/// A server, and a client that sends each SYN as often as it likes.
struct Replay {
    base: Testbed,
    listener: Listener,
    raw: RawClient,
    cookie: Vec<u8>,
    family: Family,
}

impl Replay {
    fn new(mode: &str, family: Family) -> Result<Self> {
        let base = Testbed::attach(Pair::new()?, &["--mode", mode])?;
        let listener = base.listen(family)?;
        let mut raw = RawClient::new(&base.pair, family, 0)?;
        let server = server_port(family, listener.port());
        let asks = RawSyn::fast_open(34, b"", b"");
        let cookie = match raw.send_in(&base.pair, server, &asks)? {
            Answer::SynAck {
                cookie: Some((34, cookie)),
                ..
            } => cookie,
            other => bail!("no cookie: {other:?}"),
        };
        Ok(Self {
            base,
            listener,
            raw,
            cookie,
            family,
        })
    }

    fn syn(&self, data: &[u8]) -> RawSyn {
        RawSyn::fast_open(34, &self.cookie, data)
    }

    /// Sends a SYN of the next port. Gives the bytes that its answer acknowledges, and closes what it opened: the number of
    /// connections with data.
    fn sends(&mut self, data: &[u8]) -> Result<(u32, usize)> {
        let (server, syn) = (self.server(), self.syn(data));
        let answer = self.raw.send_in(&self.base.pair, server, &syn)?;
        self.delivered(&answer)
    }

    /// The same with the last SYN's port and sequence number.
    fn sends_again(&self, data: &[u8]) -> Result<(u32, usize)> {
        let (server, syn) = (self.server(), self.syn(data));
        let answer = self.raw.send_again_in(&self.base.pair, server, &syn)?;
        self.delivered(&answer)
    }

    fn delivered(&self, answer: &Answer) -> Result<(u32, usize)> {
        let Answer::SynAck { acked, cookie } = answer else {
            bail!("{answer:?}");
        };
        if *acked == 0 {
            ensure!(
                cookie.as_ref().is_some_and(|it| it.1 == self.cookie),
                "a SYN whose data is not taken gets a cookie: {answer:?}"
            );
        }
        let opened = self.listener.reset_all()?;
        if opened == 0 {
            // Else the next copy belongs to this handshake.
            self.raw.reset(self.server(), 0)?;
        }
        self.raw.discard_in(&self.base.pair)?;
        Ok((*acked, opened))
    }

    fn server(&self) -> SocketAddr {
        server_port(self.family, self.listener.port())
    }

    fn set(&self, by: OnceBy, change: impl FnOnce(&mut Policy)) -> Result<()> {
        let mut policy = everywhere(PortPolicy {
            once_by: by,
            ..rule(Class::Valid, Action::Once)
        });
        change(&mut policy);
        self.base.set_policy(Some(policy))
    }
}

/// Runs `test` on each CPU that this thread may use.
fn on_each_cpu(mut test: impl FnMut() -> Result<()>) -> Result<()> {
    let all = sched_getaffinity(None)?;
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
        test()?;
    }
    Ok(sched_setaffinity(None, &all)?)
}

const DATA: &[u8] = &[b'x'; 100];
const TAKEN: (u32, usize) = (100, 1);
const NOT_TAKEN: (u32, usize) = (0, 0);

fn copies(mode: &str, family: Family) -> Result<()> {
    let mut replay = Replay::new(mode, family)?;
    ensure!(replay.sends(DATA)? == TAKEN);
    ensure!(
        replay.sends_again(DATA)? == TAKEN,
        "without a policy, the kernel delivers a copy"
    );
    replay.set(OnceBy::Duplicate, |_| ())?;
    ensure!(replay.sends(DATA)? == TAKEN, "it comes for the first time");
    on_each_cpu(|| {
        for _ in 0..COPIES {
            ensure!(replay.sends_again(DATA)? == NOT_TAKEN, "a copy is taken");
        }
        Ok(())
    })?;
    // Another change of the policy keeps what is remembered.
    replay.set(OnceBy::Duplicate, |policy| {
        policy.ports.insert(9, rule(Class::Bad, Action::Drop));
    })?;
    ensure!(replay.sends_again(DATA)? == NOT_TAKEN);
    let upgrade = ["attach", "--replace", "--mode", mode, SERVER_INTERFACE];
    replay.base.tfo.done(&upgrade)?;
    ensure!(
        replay.sends_again(DATA)? == NOT_TAKEN,
        "after an upgrade in place"
    );
    ensure!(
        replay.sends_again(&[b'y'; 100])? == TAKEN,
        "other data from the same port"
    );
    ensure!(replay.sends(DATA)? == TAKEN, "the same data, another port");

    // A copy that comes while its connection lives is the kernel's business.
    let (server, syn) = (replay.server(), replay.syn(DATA));
    let first = replay.raw.send_in(&replay.base.pair, server, &syn)?;
    replay.raw.send_again_in(&replay.base.pair, server, &syn)?;
    ensure!(replay.delivered(&first)? == TAKEN);
    ensure!(replay.sends_again(DATA)? == NOT_TAKEN);

    replay.set(OnceBy::Content, |_| ())?;
    let long: Vec<u8> = (0..100).collect();
    ensure!(replay.sends(&long)? == TAKEN);
    ensure!(replay.sends(&long)? == NOT_TAKEN, "the same, another port");
    let tail = [&long[..64], b"another end"].concat();
    ensure!(
        replay.sends(&tail)? == NOT_TAKEN,
        "the first 64 bytes count"
    );
    ensure!(replay.sends(&long[1..])? == (99, 1));

    replay.set(OnceBy::Content, |policy| policy.default.dry_run = true)?;
    ensure!(replay.sends(&long)? == TAKEN, "a dry run changes nothing");
    let stats = replay.base.equal()?;
    ensure!(stats.counters["DryRunRepeated"] == 1);
    ensure!(stats.counters["PolicyRepeated"] > i64::from(COPIES));
    Ok(())
}

#[test]
fn a_copy_is_not_taken_native() -> Result<()> {
    Family::BOTH
        .into_iter()
        .try_for_each(|family| copies("native", family).with_context(|| family.to_string()))
}

#[test]
fn a_copy_is_not_taken_generic() -> Result<()> {
    copies("generic", Family::V4)
}

#[test]
fn a_copy_is_not_taken_in_traffic_control() -> Result<()> {
    Family::BOTH
        .into_iter()
        .try_for_each(|family| copies("tc", family).with_context(|| family.to_string()))
}

/// Requests that the application read, by content.
type Read = HashMap<Vec<u8>, u32>;

/// Answers requests until one of them is [`END`].
fn serve(listener: &Listener) -> Result<Read> {
    let mut read = Read::new();
    loop {
        let accepted = listener.accept()?;
        // A copy's sender may have reset it.
        let Ok(request) = accepted.receive() else {
            continue;
        };
        if request == END {
            return Ok(read);
        }
        drop(accepted.send(&request));
        *read.entry(request).or_default() += 1;
    }
}

const END: &[u8] = b"end";

/// Connects `times` with a request of its own each, and checks the reply. Gives how many were in the SYN.
fn ask(pair: &Pair, server: SocketAddr, client: u8, times: u32) -> Result<u32> {
    let mut in_syn = 0;
    for number in 0..times {
        let request = format!("honest {client} {number}").into_bytes();
        let connection = Connection::open(&pair.client, server, Method::SendTo, &request)?;
        ensure!(connection.receive()? == request, "another reply");
        in_syn += u32::from(connection.info()?.syn_data_taken);
    }
    Ok(in_syn)
}

/// Sends each of some SYNs a hundred times, from ports of their own; closes after each what it may have opened.
fn send_copies(raw: &RawClient, server: SocketAddr, cookie: &[u8]) -> Result<()> {
    for copy in 0..COPIED {
        for number in 0..SYNS {
            let from = SocketAddr::new(raw.address(), 30_000 + number);
            let data = format!("copied {number}");
            let segment = |flags, sequence| Segment::new(from, server, flags).numbers(sequence, 0);
            let syn = segment(flag::SYN, 1000);
            raw.transmit(&syn.options(&fast_open(cookie)).data(data.as_bytes()))?;
            // At first the application reads it.
            if copy > 0 {
                raw.transmit(&segment(flag::RST, 1001))?;
                raw.transmit(&segment(flag::RST, 1001 + data.len() as u32))?;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

const SYNS: u16 = 10;
const COPIED: u32 = 100;

/// Copies among honest connections. Gives the requests that an application read more than once.
fn mixed(replay: &Replay, connections: u32) -> Result<usize> {
    let (server, pair) = (replay.server(), &replay.base.pair);
    let (read, in_syn) = thread::scope(|scope| {
        let application = scope.spawn(|| serve(&replay.listener));
        let copies = scope.spawn(|| send_copies(&replay.raw, server, &replay.cookie));
        let clients =
            [0, 1].map(|client| scope.spawn(move || ask(pair, server, client, connections)));
        let mut in_syn = 0;
        for client in clients {
            in_syn += client.join().expect("no panic")?;
        }
        copies.join().expect("no panic")?;
        Connection::open(&pair.client, server, Method::Plain, b"")?.send(END)?;
        anyhow::Ok((application.join().expect("no panic")?, in_syn))
    })?;
    let several = read.values().filter(|times| **times > 1).count();
    println!(
        "{} requests, {in_syn} of {} connections in the SYN, {several} requests read more than once",
        read.len(),
        2 * connections
    );
    ensure!(read.len() == 2 * connections as usize + usize::from(SYNS));
    // Some are sent again where the machine stalls.
    ensure!(in_syn > connections, "{in_syn}");
    Ok(several)
}

#[test]
fn an_application_reads_each_request_once() -> Result<()> {
    // Of each of two clients. `TFO_CONNECTIONS` has more.
    let connections = std::env::var("TFO_CONNECTIONS").map_or(Ok(500), |text| text.parse())?;
    let replay = Replay::new("native", Family::V4)?;
    for (sysctl, value) in [("ip_local_port_range", "2000 65000"), ("tcp_tw_reuse", "1")] {
        let client = &replay.base.pair.client;
        client.set_sysctl(&format!("net.ipv4.{sysctl}"), value)?;
    }
    replay.base.request_cookie(&replay.listener, Family::V4)?;
    ensure!(
        mixed(&replay, connections)? == usize::from(SYNS),
        "the bare kernel"
    );
    replay.set(OnceBy::Duplicate, |_| ())?;
    ensure!(mixed(&replay, connections)? == 0);
    Ok(())
}

/// The filters forget after two lifetimes, with a new memory, and when the policy is removed.
#[test]
fn memory_has_an_end() -> Result<()> {
    let mut replay = Replay::new("tc", Family::V4)?;
    let lifetime = Duration::from_secs(1);
    replay.set(OnceBy::Duplicate, |policy| policy.once.lifetime = lifetime)?;
    ensure!(replay.sends(DATA)? == TAKEN);
    thread::sleep(2 * lifetime + Duration::from_millis(50));
    ensure!(replay.sends_again(DATA)? == TAKEN, "after two lifetimes");
    let hour = OnceMemory::default();
    replay.set(OnceBy::Duplicate, |policy| policy.once = hour)?;
    ensure!(replay.sends_again(DATA)? == TAKEN, "in a memory of its own");
    ensure!(replay.sends_again(DATA)? == NOT_TAKEN);
    replay.base.set_policy(None)?;
    replay.set(OnceBy::Duplicate, |_| ())?;
    ensure!(replay.sends_again(DATA)? == TAKEN, "after the policy went");
    Ok(())
}

const PAGE: &str = include_str!("../../../../../docs/once.md");

/// The rules of nftables in docs/once.md, against what the data path does not read.
fn rules() -> Option<&'static str> {
    let mut blocks = PAGE.split("```");
    blocks.find(|block| block.trim_start().starts_with("table inet"))
}

/// The IPv4 packet of `frame` in two fragments.
fn in_fragments(frame: &[u8]) -> Result<[Vec<u8>; 2]> {
    const FIRST: usize = 40;
    let (ethernet, packet) = frame.split_at(14);
    let (header, tcp) = Ipv4Header::from_slice(packet)?;
    let fragment = |data: &[u8], offset: usize, more| -> Result<_> {
        let mut header = header.clone();
        header.set_payload_len(data.len())?;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new((offset / 8) as u16)?;
        header.header_checksum = header.calc_header_checksum();
        Ok([ethernet, &header.to_bytes(), data].concat())
    };
    Ok([
        fragment(&tcp[..FIRST], 0, true)?,
        fragment(&tcp[FIRST..], FIRST, false)?,
    ])
}

/// Sends `frames` twice, then once more behind the rules.
fn unread(replay: &Replay, frames: &[Vec<u8>]) -> Result<()> {
    let pair = &replay.base.pair;
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
    let send = || -> Result<usize> {
        frames.iter().try_for_each(|frame| link.send(frame))?;
        pair.barrier()?;
        replay.listener.reset_all()
    };
    ensure!(send()? == 1 && send()? == 1, "the data path reads none");
    let rules = rules().context("no rules in docs/once.md")?;
    pair.server.done("nft", &[rules])?;
    ensure!(send()? == 0, "the rules drop them");
    Ok(())
}

#[test]
fn what_is_not_read_passes_until_it_is_dropped() -> Result<()> {
    for family in Family::BOTH {
        let replay = Replay::new("native", family)?;
        replay.set(OnceBy::Duplicate, |_| ())?;
        let from = SocketAddr::new(replay.raw.address(), 30_000);
        let syn = Segment::syn(from, replay.server())
            .options(&fast_open(&replay.cookie))
            .data(DATA);
        let frames = match family {
            Family::V4 => in_fragments(&syn.frame())?.to_vec(),
            Family::V6 => {
                // Destination options: an unknown one of 20 bytes, to be skipped.
                let option = [&[0x1e, 20][..], &[0; 20]].concat();
                vec![syn.extension(60, &option).frame().to_vec()]
            }
        };
        unread(&replay, &frames).with_context(|| family.to_string())?;
    }
    Ok(())
}
