//! Cost of the guard per SYN.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use tfo_common::{fastopen::Key, guard::GuardMode};
use tfo_testbed::{
    keys,
    netns::Netns,
    packet::{Segment, cookie, fast_open},
    program::{PASS, Program},
    socket::Listener,
};
use tfo_userspace::model::{
    ChallengeSecret, EdgeGuard, EdgeService, Guard, Mirror, PortGuard, Prefix, Settings,
};

use crate::{
    actions::MANY,
    cases::{BACKUP, PORT, PRIMARY, USUAL_OPTIONS},
    frames::text,
    measure::{Effort, on_first_cpu, progress, time_with},
    peers::Restore,
    report::{Row, Sample, Table},
};

/// `XDP_TX`.
const BACK: u32 = 3;

/// Whose SYNs are challenged.
#[derive(Clone, Copy)]
enum Guarded {
    Nobodys,
    AnotherPorts,
    Listeners,
    /// Those of hosts behind this one.
    HostsBehind,
}

/// A frame, the guard, and the expected XDP verdict.
struct Case {
    name: &'static str,
    guarded: Guarded,
    frame: Vec<u8>,
    verdict: u32,
}

fn cases() -> Vec<Case> {
    let v4 = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(198, 51, 100, 2));
    let v6 = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let between = |from: SocketAddr, to: SocketAddr| Segment::syn(from, to);
    let syn = || between((v4.0, 50_000).into(), (v4.1, PORT).into());
    let valid = cookie(&PRIMARY, v4.0.into(), v4.1.into());
    let of = |name, guarded, segment: Segment, verdict| Case {
        name,
        guarded,
        frame: segment.frame().to_vec(),
        verdict,
    };
    let plain = || syn().options(&USUAL_OPTIONS);
    vec![
        of("plain SYN, no guard", Guarded::Nobodys, plain(), PASS),
        of(
            "plain SYN, guard of another port",
            Guarded::AnotherPorts,
            plain(),
            PASS,
        ),
        of("plain SYN, challenged", Guarded::Listeners, plain(), BACK),
        of(
            "plain SYN of IPv6, challenged",
            Guarded::Listeners,
            between((v6(7), 50_000).into(), (v6(2), PORT).into()).options(&USUAL_OPTIONS),
            BACK,
        ),
        of(
            "request, challenged and given a cookie",
            Guarded::Listeners,
            syn().options(&[&USUAL_OPTIONS[..], &fast_open(&[])].concat()),
            BACK,
        ),
        of(
            "data and a bad cookie, challenged and given a cookie",
            Guarded::Listeners,
            syn()
                .options(&fast_open(b"crumbles"))
                .data(b"GET / HTTP/1.1"),
            BACK,
        ),
        of(
            "data and a valid cookie, no guard",
            Guarded::Nobodys,
            syn().options(&fast_open(&valid)).data(b"GET / HTTP/1.1"),
            PASS,
        ),
        of(
            "data and a valid cookie, proven",
            Guarded::Listeners,
            syn().options(&fast_open(&valid)).data(b"GET / HTTP/1.1"),
            PASS,
        ),
        of(
            "plain SYN for a host behind, challenged",
            Guarded::HostsBehind,
            plain(),
            BACK,
        ),
        of(
            "data and a valid cookie for a host behind, proven",
            Guarded::HostsBehind,
            // A flow of its own: what is sent again of one that passed would pass.
            between((v4.0, 50_001).into(), (v4.1, PORT).into())
                .options(&fast_open(&valid))
                .data(b"GET / HTTP/1.1"),
            PASS,
        ),
    ]
}

/// The guard of a case; `None` for none.
fn guard(guarded: Guarded) -> Option<Guard> {
    let rule = PortGuard {
        mode: GuardMode::On,
        ..PortGuard::default()
    };
    let all = Guard {
        replies: MANY,
        proven: MANY,
        ..Guard::default()
    };
    let ports = |port| [(port, rule)].into();
    Some(match guarded {
        Guarded::Nobodys => return None,
        Guarded::AnotherPorts => Guard {
            ports: ports(PORT + 1),
            ..all
        },
        Guarded::Listeners => Guard {
            ports: ports(PORT),
            ..all
        },
        Guarded::HostsBehind => {
            let vip = Prefix {
                address: Ipv4Addr::new(198, 51, 100, 2).into(),
                len: 32,
            };
            let edge = EdgeGuard {
                rule,
                ..EdgeGuard::default()
            };
            Guard {
                edges: [(EdgeService { vip, port: PORT }, edge)].into(),
                secret: Some(ChallengeSecret::new(Key::ZERO)),
                ..all
            }
        }
    })
}

/// Times of every case and of an empty program.
pub(crate) fn table(effort: &Effort) -> Result<Table> {
    // The guard looks up the listener.
    let netns = Netns::new("guarded")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    netns.run(|| on_first_cpu(|| run(effort)))
}

fn run(effort: &Effort) -> Result<Table> {
    let mut settings = Settings::from(Mirror::Exact);
    settings.sources.max = 0;
    let mut tfo = Program::guarding(settings, &[PRIMARY, BACKUP])?;
    let cases = cases();
    let mut samples = vec![Vec::new(); cases.len()];
    for round in 0..=effort.rounds {
        progress("the guard", round, effort);
        for (case, samples) in cases.iter().zip(&mut samples) {
            let guard = guard(case.guarded);
            tfo.datapath().set_guard(guard.as_ref())?;
            let mut restore = Restore::new(&case.frame)?;
            restore.jump_to_empty()?;
            let yardstick = time_with(restore.xdp()?, &case.frame, effort.runs, PASS)?;
            restore.jump_to(tfo.xdp()?)?;
            let subject = time_with(restore.xdp()?, &case.frame, effort.runs, case.verdict)?;
            if round > 0 {
                samples.push(Sample { yardstick, subject });
            }
        }
    }
    let rows = cases.iter().zip(&samples);
    let rows = rows.map(|(case, samples)| Row::paired(case.name, samples));
    Ok(Table::beside_empty(
        "A SYN and the guard",
        "SYN",
        rows.collect(),
    ))
}
