//! Cookies withheld from sources on whose path Fast Open does not work: behind a middlebox that drops SYNs with data, that
//! strips the option, that drops the SYN-ACK of data that was taken, or none.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use etherparse::{SlicedPacket, TransportSlice};
use serde_json::Value;
use tfo_common::{
    policy::withhold::SourceMemory,
    wire::{options::fast_open::FastOpen, syn},
};
use tfo_testbed::{
    policy::everywhere,
    poll::eventually,
    raw::{RawClient, RawSyn},
    socket::{Connection, Listener, Method},
    testbed::{Exchange, REQUEST, Testbed},
    tfo::LIMIT,
    veth::{Family, Pair, server_port},
};
use tfo_userspace::{demo::Middlebox, model::PortPolicy};

const DAY: Duration = Duration::from_secs(86_400);

/// The behaviour of the path; 0 at first.
#[derive(Clone, Copy)]
enum Path {
    /// Nothing.
    Clean,
    /// It drops SYNs with data.
    DropsData,
    /// It makes the Fast Open option of SYNs one that nobody knows.
    StripsOption,
    /// It drops SYN-ACKs that acknowledge data.
    DropsTaken,
}

/// The middlebox's [`Path`] as a number, and how many SYNs with data it has dropped.
#[derive(Default)]
struct Switch {
    path: AtomicU8,
    dropped: AtomicU64,
}

/// A middlebox that does what `switch` says.
fn middlebox(switch: Arc<Switch>) -> Middlebox {
    const CLIENT: usize = 0;
    const UNKNOWN: u8 = 99;
    /// Sequence numbers of SYNs, by port.
    type Sequences = HashMap<u16, u32>;
    let mut sequences = Sequences::new();
    Box::new(move |from, frame| {
        let path = switch.path.load(Ordering::SeqCst);
        if let Ok(syn) = syn::parse(&frame[..])
            && from == CLIENT
        {
            sequences.insert((syn.ports as u16).swap_bytes(), syn.sequence);
            let asks = syn.options.fast_open() != FastOpen::Absent;
            if path == Path::StripsOption as u8 && asks {
                let place = usize::from(syn.layout.tcp) + 20 + usize::from(syn.options.place().at);
                frame[place] = UNKNOWN;
            }
            let drops = path == Path::DropsData as u8 && syn.data_len > 0;
            switch.dropped.fetch_add(drops.into(), Ordering::SeqCst);
            return !drops;
        }
        let tcp = SlicedPacket::from_ethernet(frame)
            .ok()
            .and_then(|packet| packet.transport);
        match tcp {
            Some(TransportSlice::Tcp(tcp)) if tcp.syn() && tcp.ack() => {
                let sequence = sequences.get(&tcp.destination_port());
                let plain = sequence.map(|sequence| sequence.wrapping_add(1));
                path != Path::DropsTaken as u8 || plain == Some(tcp.acknowledgment_number())
            }
            _ => true,
        }
    })
}

/// A client behind a middlebox, and a server that withholds cookies.
struct Road {
    base: Testbed,
    listener: Listener,
    family: Family,
    switch: Arc<Switch>,
}

impl Road {
    fn new(mode: &str, family: Family, rule: PortPolicy) -> Result<Self> {
        Self::delayed(Duration::ZERO, mode, family, rule)
    }

    fn delayed(one_way: Duration, mode: &str, family: Family, rule: PortPolicy) -> Result<Self> {
        let switch = Arc::new(Switch::default());
        let pair = Pair::through(one_way, middlebox(Arc::clone(&switch)))?;
        let base = Testbed::attach(pair, &["--mode", mode])?;
        base.set_policy(Some(everywhere(rule)))?;
        Ok(Self {
            listener: base.listen(family)?,
            base,
            family,
            switch,
        })
    }

    fn set(&self, path: Path) {
        self.switch.path.store(path as u8, Ordering::SeqCst);
    }

    fn connects(&self, method: Method) -> Result<Exchange> {
        self.base.exchange(&self.listener, self.family, method)
    }

    /// A client without a cookie connects. Whether it has one then.
    fn is_given(&self) -> Result<bool> {
        self.base.pair.forget_cookies()?;
        self.connects(Method::SendTo)?;
        Ok(self.base.pair.cached_cookie(self.family)?.is_some())
    }

    /// The same of one that tries again, as its SYN is sent again, without the option, where the machine stalls.
    fn is_given_soon(&self) -> Result<bool> {
        for _ in 0..5 {
            if self.is_given()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// SYNs with data that were dropped.
    fn dropped(&self) -> u64 {
        self.switch.dropped.load(Ordering::SeqCst)
    }

    /// `tfo policy withheld --all` as JSON.
    fn remembered(&self) -> Result<Vec<Value>> {
        let all = self.base.tfo.json(&["policy", "withheld", "--all"])?;
        Ok(all["sources"].as_array().cloned().unwrap_or_default())
    }

    /// The cause of the only source of which something is remembered; `None` if it is given cookies.
    fn cause(&self) -> Result<Option<String>> {
        let remembered = self.remembered()?;
        ensure!(remembered.len() == 1, "{remembered:?}");
        Ok(remembered[0]["cause"].as_str().map(str::to_owned))
    }

    /// Has the client lose as many connections as it takes.
    fn learns(&self) -> Result<()> {
        ensure!(self.is_given_soon()?, "no cookie to waste");
        self.set(Path::DropsData);
        for _ in 0..SourceMemory::PLAIN {
            ensure!(self.cause()?.is_none(), "learned too early");
            self.connects(Method::SendTo)?;
        }
        let cause = self.cause()?;
        ensure!(cause.as_deref() == Some("no-cookie"), "{cause:?}");
        Ok(())
    }

    /// With a path that was mended, cookies are given again after so many SYNs at most.
    fn notices(&self) -> Result<()> {
        let mut withheld = 0;
        while !self.is_given()? {
            withheld += 1;
            // Where the machine stalls, the first trial may bring no cookie.
            let most = 3 * SourceMemory::TRIAL;
            ensure!(withheld < most, "{:?}", self.remembered()?);
        }
        self.base
            .in_syn(&self.listener, self.family, Method::SendTo)?;
        ensure!(self.cause()?.is_none(), "{:?}", self.remembered()?);
        ensure!(self.is_given_soon()?);
        Ok(())
    }
}

fn withholding() -> PortPolicy {
    PortPolicy {
        withhold: DAY,
        ..PortPolicy::default()
    }
}

/// Each connection of a client with a cookie costs a timeout, until its network is known; then none of a new client's does.
#[test]
fn a_path_that_drops_syns_with_data_is_learned_and_its_mending_noticed() -> Result<()> {
    for (mode, family) in [("tc", Family::V4), ("native", Family::V6)] {
        let road = Road::new(mode, family, withholding())?;
        road.learns()?;
        ensure!(road.dropped() == SourceMemory::PLAIN, "{}", road.dropped());
        let slow = road.connects(Method::SendTo)?.took;
        let known = road.dropped();
        let mut quick = Duration::ZERO;
        for _ in 0..5 {
            ensure!(!road.is_given()?, "given a cookie");
            quick = road.connects(Method::SendTo)?.took;
        }
        let again = road.dropped() - known;
        ensure!(again == 0, "{again} SYNs lost with cookies withheld");
        println!("{mode}, {family}: {slow:?} with a cookie, {quick:?} with cookies withheld");
        let stats = road.base.equal()?;
        ensure!(stats.counters["PolicyWithheld"] >= 10, "{stats:?}");
        road.set(Path::Clean);
        road.notices()?;
        road.base.equal()?;
    }
    Ok(())
}

/// SYNs with a cookie arrive, and their connections never open, while ordinary ones do.
#[test]
fn a_path_on_which_data_in_the_syn_opens_nothing_is_learned() -> Result<()> {
    for (mode, family) in [("native", Family::V4), ("tc", Family::V6)] {
        let road = Road::new(mode, family, withholding())?;
        ensure!(road.is_given_soon()?);
        road.set(Path::DropsTaken);
        let server = server_port(family, road.listener.port());
        let mut stuck = Vec::new();
        for _ in 0..SourceMemory::WAITING {
            let client = &road.base.pair.client;
            stuck.push(Connection::open_without_waiting(client, server, REQUEST)?);
        }
        thread::sleep(Duration::from_nanos(SourceMemory::PATIENCE));
        ensure!(road.cause()?.is_none(), "nothing else has opened yet");
        drop(stuck);
        road.listener.reset_all()?;
        road.connects(Method::Plain)?;
        let cause = road.cause()?;
        ensure!(cause.as_deref() == Some("no-connection"), "{cause:?}");
        // From now on the kernel takes no data of its SYNs, so they open connections.
        for _ in 0..3 {
            road.base.pair.ensure_cookie(family)?;
            let exchange = road.connects(Method::SendTo)?;
            ensure!(!exchange.in_syn, "taken");
        }
        road.set(Path::Clean);
        let mut tries = 0;
        while !road.connects(Method::SendTo)?.in_syn {
            tries += 1;
            let most = 3 * SourceMemory::TRIAL;
            ensure!(tries < most, "{:?}", road.remembered()?);
        }
        ensure!(road.cause()?.is_none(), "{:?}", road.remembered()?);
        road.base.equal()?;
    }
    Ok(())
}

/// Without the option nobody is given a cookie, so nobody wastes one. And where all is well, nothing is withheld, whatever others
/// behind the same address do.
#[test]
fn paths_that_cost_nothing_are_left_alone() -> Result<()> {
    let road = Road::new("tc", Family::V4, withholding())?;
    road.set(Path::StripsOption);
    for _ in 0..2 * SourceMemory::PLAIN {
        ensure!(!road.is_given()?, "the option got through");
    }
    ensure!(road.remembered()?.is_empty(), "{:?}", road.remembered()?);
    road.set(Path::Clean);
    ensure!(road.is_given_soon()?);
    road.base
        .in_syn(&road.listener, Family::V4, Method::SendTo)?;
    for _ in 0..3 {
        ensure!(road.is_given_soon()?, "{:?}", road.remembered()?);
        for _ in 0..2 * SourceMemory::PLAIN {
            road.connects(Method::Plain)?;
        }
    }
    road.base.equal().map(drop)
}

/// SYNs that complete no handshake teach nothing, neither of their own source nor of one that is spoofed.
#[test]
fn forged_syns_teach_nothing() -> Result<()> {
    let family = Family::V4;
    let road = Road::new("tc", family, withholding())?;
    let server = server_port(family, road.listener.port());
    let mut raw = RawClient::new(&road.base.pair, family, 0)?;
    for _ in 0..10 * SourceMemory::PLAIN {
        for syn in [
            RawSyn::fast_open(34, b"", b""),
            RawSyn::fast_open(34, b"a forged", b"data"),
            RawSyn::plain(b""),
        ] {
            raw.send(server, &syn)?;
        }
    }
    ensure!(road.remembered()?.is_empty(), "{:?}", road.remembered()?);
    ensure!(road.is_given_soon()?);
    road.base.in_syn(&road.listener, family, Method::SendTo)?;
    ensure!(road.cause()?.is_none());
    road.base.equal().map(drop)
}

/// A dry run learns and counts; nothing is withheld. What was learned stays with the next policy, until it is forgotten.
#[test]
fn a_dry_run_only_counts() -> Result<()> {
    let rule = PortPolicy {
        dry_run: true,
        ..withholding()
    };
    let road = Road::new("tc", Family::V6, rule)?;
    road.learns()?;
    ensure!(road.is_given_soon()?);
    let stats = road.base.equal()?;
    ensure!(stats.counters["DryRunWithheld"] > 0, "{stats:?}");
    ensure!(stats.counters["PolicyWithheld"] == 0, "{stats:?}");
    road.base.set_policy(Some(everywhere(withholding())))?;
    ensure!(!road.is_given()?, "what was learned is gone");
    let tfo = &road.base.tfo;
    let said = tfo.done(&["policy", "withheld", "--forget", "fd77::/16"])?;
    ensure!(said.contains("from no source"), "{said}");
    ensure!(road.is_given_soon()?);
    road.learns()?;
    road.base.set_policy(None)?;
    road.base.set_policy(Some(everywhere(withholding())))?;
    ensure!(road.remembered()?.is_empty(), "{:?}", road.remembered()?);
    Ok(())
}

/// A server that has replied and closed before the client's ACK comes: the kernel opens no such connection, but its client has
/// used its cookie.
#[test]
fn servers_that_close_at_once_are_no_fault_of_the_path() -> Result<()> {
    const ONE_WAY: Duration = Duration::from_millis(100);
    let road = Road::delayed(ONE_WAY, "tc", Family::V4, withholding())?;
    ensure!(road.is_given_soon()?);
    let server = server_port(Family::V4, road.listener.port());
    let (mut early, mut tries) = (0, 0);
    while early < 3 {
        tries += 1;
        ensure!(tries < 30, "the ACK always came first");
        let client = Connection::open_without_waiting(&road.base.pair.client, server, REQUEST)?;
        let accepted = road.listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        accepted.send(REQUEST)?;
        early += u32::from(accepted.info()?.handshake_open);
        drop(accepted);
        ensure!(client.receive()? == REQUEST && client.receive()?.is_empty());
        drop(client);
        eventually("it counts as one that worked", LIMIT, || {
            let remembered = road.remembered()?;
            let source = &remembered[0];
            Ok(source["waiting"] == 0 && source["worked_seconds_ago"].is_u64())
        })?;
    }
    Ok(())
}

/// A cookie is good at all ports, so it shows that all is well at any of them.
#[test]
fn a_cookie_that_works_at_another_port_counts() -> Result<()> {
    let road = Road::new("tc", Family::V6, PortPolicy::default())?;
    let other = road.base.listen(Family::V6)?;
    let mut policy = everywhere(PortPolicy::default());
    policy.ports.insert(road.listener.port(), withholding());
    road.base.set_policy(Some(policy))?;
    ensure!(road.is_given_soon()?);
    for _ in 0..SourceMemory::PLAIN {
        road.base.exchange(&other, Family::V6, Method::Plain)?;
    }
    ensure!(
        road.remembered()?[0]["plain"] == 0,
        "{:?}",
        road.remembered()?
    );
    road.base.in_syn(&other, Family::V6, Method::SendTo)?;
    let remembered = road.remembered()?;
    ensure!(
        remembered[0]["worked_seconds_ago"].is_u64(),
        "{remembered:?}"
    );
    Ok(())
}
