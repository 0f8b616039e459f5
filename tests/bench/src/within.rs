//! The cost of a feature against the same SYN without it, and of the mirror `exact` against the
//! kernel's look-up of the listener alone.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use tfo_testbed::{
    packet::{Segment, cookie, fast_open, linux_options},
    program::Program,
};
use tfo_userspace::model::{Mirror, Policy};

use crate::{
    cases::REQUEST,
    challenges::guard_of,
    data_path::{BACKUP, PORT, PRIMARY, listening, settings},
    measure::{self, Effort, Measured, in_turns, on_first_cpu, progress},
    net::Cost,
    peers::Peer,
    report::{Report, Row, Section, Table},
};

/// Data paths that differ in one thing.
struct DataPaths {
    /// Mirror `packet`.
    bare: Program,
    /// The same, under a policy that passes everything.
    passing: Program,
    /// Mirror `exact`: with the listener.
    exact: Program,
    /// The same, with a guard.
    guarded: Program,
}

impl DataPaths {
    fn load() -> Result<Self> {
        let keys = [PRIMARY, BACKUP];
        let load = |mirror| Program::with_settings(settings(mirror), &keys);
        let mut passing = load(Mirror::Packet)?;
        passing.datapath().set_policy(Some(&Policy::default()))?;
        let mut guarded = Program::guarding(settings(Mirror::Exact), &keys)?;
        guarded.datapath().set_guard(Some(&guard_of([PORT])))?;
        Ok(Self {
            bare: load(Mirror::Packet)?,
            passing,
            exact: load(Mirror::Exact)?,
            guarded,
        })
    }
}

/// A baseline, a subject, and their frame.
struct Pair<'a> {
    name: String,
    programs: [measure::Program<'a>; 2],
    frame: Vec<u8>,
    rounds: Vec<[Cost; 3]>,
}

impl<'a> Pair<'a> {
    fn new(name: String, programs: [measure::Program<'a>; 2], frame: &[u8]) -> Self {
        Self {
            name,
            programs,
            frame: frame.to_vec(),
            rounds: Vec::new(),
        }
    }
}

/// Measures each pair.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let lookup = report.had("the look-up alone, in C", Peer::lookup());
    let (netns, _listener) = listening("within")?;
    let rows = netns.run(|| on_first_cpu(|| run(effort, lookup.as_ref())))?;
    Ok(Section {
        title: "What a feature costs".into(),
        about: vec![ABOUT.into()],
        tables: vec![Table {
            subject: "with it".into(),
            ..Table::beside("A SYN with and without", "SYN", "without it", rows)
        }],
        plots: Vec::new(),
    })
}

const ABOUT: &str = "The same SYN with and without one thing, and to an empty program, in turns. The cookie is valid and the SYN has\n\
    data, unless told otherwise. `pass` is a policy that passes everything, with `--mirror packet`; the guard is on and\n\
    the SYN proven by its cookie, with the listener. `the listener` has no SYN without it beside it, but the kernel's\n\
    look-up alone: a program in C that reads addresses and ports, calls `bpf_skc_lookup_tcp`, and releases the socket.";

fn pairs<'a>(data_paths: &'a DataPaths, lookup: Option<&'a Peer>) -> Result<Vec<Pair<'a>>> {
    let DataPaths {
        bare,
        passing,
        exact,
        guarded,
    } = data_paths;
    let xdp = |program: &'a Program| Ok::<_, anyhow::Error>(measure::Program::Xdp(program.xdp()?));
    let mut pairs = Vec::new();
    for (family, client, server) in [
        (
            "IPv4",
            IpAddr::from([192, 0, 2, 7]),
            IpAddr::from([198, 51, 100, 2]),
        ),
        (
            "IPv6",
            IpAddr::from([0x2001, 0xdb8, 1, 2, 3, 4, 5, 6_u16]),
            IpAddr::from([0x2001, 0xdb8, 7, 8, 9, 0, 0, 1_u16]),
        ),
    ] {
        let syn = Segment::syn((client, 50_000).into(), (server, PORT).into());
        let with = |cookie: &[u8]| {
            let syn = syn.clone().options(&linux_options(&fast_open(cookie)));
            syn.data(REQUEST).frame()
        };
        let valid = with(&cookie(&PRIMARY, client, server));
        let plain = syn.clone().options(&linux_options(&[])).frame();
        let pass = [xdp(bare)?, xdp(passing)?];
        let guard = [xdp(exact)?, xdp(guarded)?];
        pairs.extend([
            Pair::new(format!("{family}, plain, pass"), pass, &plain),
            Pair::new(format!("{family}, pass"), pass, &valid),
            Pair::new(
                format!("{family}, invalid cookie, pass"),
                pass,
                &with(b"crumbles"),
            ),
            Pair::new(format!("{family}, the guard"), guard, &valid),
        ]);
        if let Some(lookup) = lookup {
            let programs = [measure::Program::Xdp(lookup.xdp()?), xdp(exact)?];
            pairs.push(Pair::new(
                format!("{family}, the listener"),
                programs,
                &valid,
            ));
        }
    }
    Ok(pairs)
}

fn run(effort: &Effort, lookup: Option<&Peer>) -> Result<Vec<Row>> {
    let data_paths = DataPaths::load()?;
    let empty = Peer::empty()?;
    let mut pairs = pairs(&data_paths, lookup)?;
    for round in 0..=effort.rounds {
        progress("features", round, effort);
        for pair in &mut pairs {
            let [without, with] = pair.programs;
            let programs = [measure::Program::Xdp(empty.xdp()?), without, with];
            let measured = programs.map(|program| Measured::passing(program, &pair.frame));
            let costs = in_turns(measured, effort.runs, round);
            let costs = costs.with_context(|| pair.name.clone())?;
            if round > 0 {
                pair.rounds.push(costs);
            }
        }
    }
    let rows = pairs
        .iter()
        .map(|pair| Row::beside(&pair.name, &pair.rounds));
    Ok(rows.collect())
}
