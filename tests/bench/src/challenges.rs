//! Cost of the guard per SYN.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tfo_common::{fastopen::Key, guard::GuardMode, rate::Rate};
use tfo_testbed::{
    packet::{Segment, cookie, fast_open},
    program::Program,
};
use tfo_userspace::model::{
    ChallengeSecret, EdgeGuard, EdgeService, Guard, Mirror, Policy, PortGuard, Prefix,
};

use crate::{
    cases::USUAL_OPTIONS,
    data_path::{BACKUP, PORT, PRIMARY, entry, listening, settings},
    measure::{Effort, Hook, Measured, in_turns, on_first_cpu, progress},
    net::Cost,
    peer_files::{PeerFile, verdict_name},
    report::{Row, Table},
    restore::Restore,
};

/// A limit that no run exceeds.
pub(crate) const MANY: Rate = Rate {
    per_second: 1_000_000_000,
    burst: 1_000_000_000,
};

/// Whose SYNs are challenged.
#[derive(Clone, Copy)]
enum Guarded {
    Nobodys,
    AnotherPorts,
    Listeners,
    /// Those of hosts behind this one.
    HostsBehind,
}

/// The outcome for a SYN.
#[derive(Clone, Copy)]
enum Fate {
    Passes,
    /// Leaves as a SYN-ACK.
    IsChallenged,
}

impl Fate {
    const fn verdict(self, hook: Hook) -> u32 {
        match self {
            Self::Passes => hook.passes(),
            Self::IsChallenged => hook.sends_back(),
        }
    }
}

/// A frame, the guard, and the expected verdict.
struct Case {
    name: &'static str,
    guarded: Guarded,
    /// A policy that passes everything is in force.
    policy: bool,
    frame: Vec<u8>,
    fate: Fate,
}

/// The plain SYN that the guard challenges, and peers with it.
const CHALLENGED: &str = "plain SYN, challenged";

fn cases() -> Vec<Case> {
    let v4 = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(198, 51, 100, 2));
    let v6 = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let between = |from: SocketAddr, to: SocketAddr| Segment::syn(from, to);
    let syn = || between((v4.0, 50_000).into(), (v4.1, PORT).into());
    let valid = cookie(&PRIMARY, v4.0.into(), v4.1.into());
    let of = |name, guarded, segment: Segment, fate| Case {
        name,
        guarded,
        policy: false,
        frame: segment.frame().to_vec(),
        fate,
    };
    let plain = || syn().options(&USUAL_OPTIONS);
    vec![
        of(
            "plain SYN, no guard",
            Guarded::Nobodys,
            plain(),
            Fate::Passes,
        ),
        of(
            "plain SYN, guard of another port",
            Guarded::AnotherPorts,
            plain(),
            Fate::Passes,
        ),
        of(CHALLENGED, Guarded::Listeners, plain(), Fate::IsChallenged),
        of(
            "plain SYN of IPv6, challenged",
            Guarded::Listeners,
            between((v6(7), 50_000).into(), (v6(2), PORT).into()).options(&USUAL_OPTIONS),
            Fate::IsChallenged,
        ),
        of(
            "request, challenged and given a cookie",
            Guarded::Listeners,
            syn().options(&[&USUAL_OPTIONS[..], &fast_open(&[])].concat()),
            Fate::IsChallenged,
        ),
        of(
            "data and a bad cookie, challenged and given a cookie",
            Guarded::Listeners,
            syn()
                .options(&fast_open(b"crumbles"))
                .data(b"GET / HTTP/1.1"),
            Fate::IsChallenged,
        ),
        of(
            "data and a valid cookie, no guard",
            Guarded::Nobodys,
            syn().options(&fast_open(&valid)).data(b"GET / HTTP/1.1"),
            Fate::Passes,
        ),
        of(
            "data and a valid cookie, proven",
            Guarded::Listeners,
            syn().options(&fast_open(&valid)).data(b"GET / HTTP/1.1"),
            Fate::Passes,
        ),
        Case {
            policy: true,
            ..of(
                "data and a valid cookie, proven, with a policy",
                Guarded::Listeners,
                syn().options(&fast_open(&valid)).data(b"GET / HTTP/1.1"),
                Fate::Passes,
            )
        },
        of(
            "plain SYN for a host behind, challenged",
            Guarded::HostsBehind,
            plain(),
            Fate::IsChallenged,
        ),
        of(
            "data and a valid cookie for a host behind, proven",
            Guarded::HostsBehind,
            // A flow of its own: what is sent again of one that passed would pass.
            between((v4.0, 50_001).into(), (v4.1, PORT).into())
                .options(&fast_open(&valid))
                .data(b"GET / HTTP/1.1"),
            Fate::Passes,
        ),
    ]
}

/// A guard of these ports that is always on.
pub(crate) fn guard_of(ports: impl IntoIterator<Item = u16>) -> Guard {
    let rule = PortGuard {
        mode: GuardMode::On,
        ..PortGuard::default()
    };
    Guard {
        replies: MANY,
        proven: MANY,
        ports: ports.into_iter().map(|port| (port, rule)).collect(),
        ..Guard::default()
    }
}

/// The guard of a case; `None` for none.
fn guard(guarded: Guarded) -> Option<Guard> {
    Some(match guarded {
        Guarded::Nobodys => return None,
        Guarded::AnotherPorts => guard_of([PORT + 1]),
        Guarded::Listeners => guard_of([PORT]),
        Guarded::HostsBehind => {
            let vip = Prefix {
                address: Ipv4Addr::new(198, 51, 100, 2).into(),
                len: 32,
            };
            let edge = EdgeGuard {
                rule: PortGuard {
                    mode: GuardMode::On,
                    ..PortGuard::default()
                },
                ..EdgeGuard::default()
            };
            Guard {
                edges: [(EdgeService { vip, port: PORT }, edge)].into(),
                secret: Some(ChallengeSecret::new(Key::ZERO)),
                ..guard_of([])
            }
        }
    })
}

/// Costs of every case and of an empty program; and of the challenge beside `peers`, which get the same SYN.
pub(crate) fn tables(effort: &Effort, hook: Hook, peers: &[PeerFile]) -> Result<Vec<Table>> {
    // The guard looks up the listener.
    let (netns, _listener) = listening("guarded")?;
    netns.run(|| on_first_cpu(|| run(effort, hook, peers)))
}

fn run(effort: &Effort, hook: Hook, peers: &[PeerFile]) -> Result<Vec<Table>> {
    let mut tfo = Program::guarding(settings(Mirror::Exact), &[PRIMARY, BACKUP])?;
    let cases = cases();
    let plain = cases.iter().find(|case| case.name == CHALLENGED);
    let plain = &plain.context("there is no plain SYN")?.frame;
    let [mut empty, mut before] = [
        Restore::empty(hook, &[plain])?,
        Restore::before(entry(&tfo, hook)?, &[plain])?,
    ];
    let mut peers = peers
        .iter()
        .map(|peer| Beside::new(peer, plain))
        .collect::<Result<Vec<_>>>()?;
    let mut rounds = vec![Vec::new(); cases.len()];
    for round in 0..=effort.rounds {
        progress("the guard", round, effort);
        for (case, rounds) in cases.iter().zip(&mut rounds) {
            let policy = case.policy.then(Policy::default);
            tfo.datapath().set_policy(policy.as_ref())?;
            tfo.datapath().set_guard(guard(case.guarded).as_ref())?;
            for restore in [&mut empty, &mut before] {
                restore.set_frames(&[&case.frame])?;
            }
            let subject = before.measured(&case.frame, case.fate.verdict(hook))?;
            let measured = [empty.passing(&case.frame)?, subject];
            let costs = in_turns(measured, effort.runs, round)?;
            if round > 0 {
                rounds.push(costs);
            }
            if case.name == CHALLENGED {
                for peer in &mut peers {
                    let [yardstick, other] = peer.measured(plain)?;
                    let costs = in_turns([yardstick, other, subject], effort.runs, round)?;
                    if round > 0 {
                        peer.rounds.push(costs);
                    }
                }
            }
        }
    }
    let rows = cases.iter().zip(&rounds);
    let mut rows: Vec<_> = rows
        .map(|(case, rounds)| Row::beside_empty(case.name, rounds))
        .collect();
    rows.extend(peers.iter().map(Beside::alone));
    let mut tables = vec![Table::beside_empty("A SYN and the guard", "SYN", rows)];
    if !peers.is_empty() {
        let rows = peers.iter().map(Beside::row).collect();
        tables.push(Table::beside(
            "A challenge beside other programs",
            "other program",
            "it",
            rows,
        ));
    }
    Ok(tables)
}

/// A peer that is measured beside the challenge.
struct Beside {
    name: String,
    /// In front of an empty program, and of the peer.
    restore: [Restore; 2],
    verdict: u32,
    /// Costs of the empty program, of the peer and of the challenge.
    rounds: Vec<[Cost; 3]>,
}

impl Beside {
    fn new(peer: &PeerFile, frame: &[u8]) -> Result<Self> {
        let restore = Restore::pair(peer.xdp()?, frame);
        let restore = restore.with_context(|| format!("{} cannot be tail-called", peer.name()))?;
        let verdict = restore[1].verdict(frame)?;
        Ok(Self {
            name: format!("{}: {}", peer.name(), verdict_name(verdict)),
            restore,
            verdict,
            rounds: Vec::new(),
        })
    }

    fn measured<'a>(&'a self, frame: &'a [u8]) -> Result<[Measured<'a>; 2]> {
        let [empty, before] = &self.restore;
        Ok([empty.passing(frame)?, before.measured(frame, self.verdict)?])
    }

    /// Its row beside the empty program.
    fn alone(&self) -> Row {
        let rounds = self.rounds.iter().map(|[empty, peer, _]| [*empty, *peer]);
        Row::beside_empty(
            format!("plain SYN, {}", self.name),
            &rounds.collect::<Vec<_>>(),
        )
    }

    fn row(&self) -> Row {
        Row::beside(&self.name, &self.rounds)
    }
}
