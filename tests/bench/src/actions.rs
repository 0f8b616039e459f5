//! Cost of a policy's verdict per SYN.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::Result;
use tfo_common::{
    policy::{Action, Class, Limit, once::OnceBy},
    rate::Rate,
};
use tfo_testbed::{
    packet::{Segment, cookie, fast_open},
    program::{PASS, Program},
};
use tfo_userspace::model::{Lists, Mirror, Policy, PortPolicy, Prefix};

use crate::{
    challenges::{self, MANY},
    data_path::{BACKUP, PORT, PRIMARY, entry, settings},
    measure::{Effort, Hook, in_turns, on_first_cpu, progress},
    own_cookies,
    peer_files::PeerFile,
    report::{Plot, Report, Row, Section, Table},
    restore::Restore,
};

/// `XDP_DROP`.
const DROP: u32 = 1;

/// A policy for a SYN with data, and the expected XDP verdict.
struct Case {
    name: &'static str,
    policy: Option<Policy>,
    verdict: u32,
}

impl Case {
    const fn without_policy() -> Self {
        Self {
            name: "no policy",
            policy: None,
            verdict: PASS,
        }
    }

    fn new(name: &'static str, port: PortPolicy) -> Self {
        let verdict = match port.actions[Class::Bad as usize] {
            Action::Drop if !port.dry_run => DROP,
            _ => PASS,
        };
        Self {
            name,
            policy: Some(Policy {
                default: port,
                ..Policy::default()
            }),
            verdict,
        }
    }

    /// For a SYN with a valid cookie. Each run but the first is a copy of the one before, which a dry run lets pass.
    fn of_valid() -> Vec<Self> {
        let once = |once_by, dry_run| {
            let mut port = PortPolicy {
                once_by,
                dry_run,
                ..PortPolicy::default()
            };
            port.actions[Class::Valid as usize] = Action::Once;
            port
        };
        let mut cases = Self::of_plain();
        cases.extend([
            Self::new("once, by duplicate", once(OnceBy::Duplicate, true)),
            Self::new("once, by content", once(OnceBy::Content, true)),
            Self::new(
                "once, by duplicate: a copy, reissued",
                once(OnceBy::Duplicate, false),
            ),
        ]);
        cases
    }

    /// For a SYN without Fast Open and data.
    fn of_plain() -> Vec<Self> {
        let withholding = PortPolicy {
            withhold: Duration::from_secs(86_400),
            ..PortPolicy::default()
        };
        vec![
            Self::without_policy(),
            Self::new("pass", PortPolicy::default()),
            // From no source here, since no handshake is completed.
            Self::new(
                "pass, cookies withheld from sources that waste them",
                withholding,
            ),
        ]
    }

    /// For a SYN with an invalid cookie.
    fn of_bad() -> Vec<Self> {
        let bad = |action| {
            let mut port = PortPolicy::default();
            port.actions[Class::Bad as usize] = action;
            port
        };
        let limited = |limit| {
            let mut port = PortPolicy::default();
            port.limits[Class::Bad as usize] = limit;
            port
        };
        let listed = (0..100_000_u32).map(|number| Prefix {
            address: Ipv4Addr::from(0x0a00_0000 + 16 * number).into(),
            len: 28,
        });
        let mut lists = Self::new("pass, 100,000 prefixes on the deny list", bad(Action::Pass));
        if let Some(policy) = &mut lists.policy {
            policy.lists = Lists {
                allow: Vec::new(),
                deny: listed.collect(),
            };
        }
        vec![
            Self::without_policy(),
            Self::new("pass", bad(Action::Pass)),
            Self::new("reissue", bad(Action::Reissue)),
            Self::new("fallback", bad(Action::Fallback)),
            Self::new("drop", bad(Action::Drop)),
            Self::new(
                "drop, as a dry run",
                PortPolicy {
                    dry_run: true,
                    ..bad(Action::Drop)
                },
            ),
            Self::new(
                "pass, within a limit of the source",
                limited(Limit {
                    source: MANY,
                    port: Rate::UNLIMITED,
                }),
            ),
            Self::new(
                "pass, within a limit of the port",
                limited(Limit {
                    source: Rate::UNLIMITED,
                    port: MANY,
                }),
            ),
            lists,
        ]
    }
}

/// Measures every action on a SYN with data and an invalid cookie, then the guard, beside `peers`.
pub(crate) fn section(effort: &Effort, peers: &[PeerFile], report: &mut Report) -> Result<Section> {
    let mut section = on_first_cpu(|| policies(effort))?;
    match challenges::tables(effort, Hook::Xdp, peers) {
        Ok(tables) => {
            section.plots.push(Plot {
                file: "guard.svg".into(),
                caption: "A SYN and the guard, relative to an empty program (lower is better)"
                    .into(),
                tables: vec![section.tables.len()],
                over: None,
            });
            section.tables.extend(tables);
        }
        Err(error) => report.miss("cost of the guard", &error),
    }
    match own_cookies::tables(effort) {
        Ok(tables) => section.tables.extend(tables),
        Err(error) => report.miss("cost of own cookies", &error),
    }
    Ok(section)
}

fn policies(effort: &Effort) -> Result<Section> {
    let mut tfo = Program::with_settings(settings(Mirror::Packet), &[PRIMARY, BACKUP])?;
    let (client, server) = ([192, 0, 2, 7], [198, 51, 100, 2]);
    let valid = cookie(&PRIMARY, IpAddr::from(client), IpAddr::from(server));
    let mut tables = Vec::new();
    let syn = Segment::syn((client, 50_000).into(), (server, PORT).into());
    let with = |cookie| {
        syn.clone()
            .options(&fast_open(cookie))
            .data(b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
            .frame()
    };
    for (name, frame, cases) in [
        (
            "A SYN with data and a bad cookie",
            with(b"crumbles"),
            Case::of_bad(),
        ),
        (
            "A SYN with data and a valid cookie",
            with(&valid),
            Case::of_valid(),
        ),
        ("A SYN without Fast Open", syn.frame(), Case::of_plain()),
    ] {
        let rows = time_cases(&mut tfo, &frame, &cases, effort)?;
        tables.push(Table::beside_empty(name, "action", rows));
    }
    Ok(Section {
        title: "What an action costs".into(),
        about: vec![ABOUT.into()],
        tables,
        plots: vec![Plot {
            file: "actions.svg".into(),
            caption: "Cost of an action, relative to an empty program (lower is better)".into(),
            tables: vec![0, 1],
            over: None,
        }],
    })
}

fn time_cases(
    tfo: &mut Program,
    frame: &[u8],
    cases: &[Case],
    effort: &Effort,
) -> Result<Vec<Row>> {
    let empty = Restore::empty(Hook::Xdp, &[frame])?;
    let before = Restore::before(entry(tfo, Hook::Xdp)?, &[frame])?;
    let mut rounds = vec![Vec::new(); cases.len()];
    for round in 0..=effort.rounds {
        progress("actions", round, effort);
        for (case, rounds) in cases.iter().zip(&mut rounds) {
            tfo.datapath().set_policy(case.policy.as_ref())?;
            let measured = [empty.passing(frame)?, before.measured(frame, case.verdict)?];
            let costs = in_turns(measured, effort.runs, round)?;
            if round > 0 {
                rounds.push(costs);
            }
        }
    }
    let rows = cases.iter().zip(&rounds);
    let rows = rows.map(|(case, rounds)| Row::beside_empty(case.name, rounds));
    Ok(rows.collect())
}

const ABOUT: &str = "Measured as above, with an IPv4 SYN, where it carries data 41 bytes. The program checks it against two\n\
    keys; `--mirror packet`, no counters by source. Some actions rewrite the frame, so a program that restores it\n\
    runs before both programs and is part of both times.";
