//! Cost of the data path per frame, in XDP and in traffic control.

use anyhow::{Context as _, Result, ensure};

use crate::{
    cases::{Case, cases},
    challenges,
    data_path::{BACKUP, PORT, PRIMARY, Tfo, With, listening},
    measure::{Effort, Hook, Measured, Program, in_turns, on_first_cpu, progress},
    net::Cost,
    peers::{EmptyTc, Peer},
    report::{Plot, Report, Row, Section, Table},
    sizes,
};

/// Measures every frame in every configuration, in XDP.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    // `Mirror::Exact` looks up this listener.
    let (netns, _listener) = listening("bench")?;
    let c = report.had("the equivalent C program", Peer::c(&[PRIMARY, BACKUP]));
    let empty = Peer::empty()?;
    let yardstick = Program::Xdp(empty.xdp()?);
    let measure = || run(effort, yardstick, c.as_ref());
    let cases = netns.run(|| on_first_cpu(measure))?;
    let mut tables = vec![beside_empty(&cases)];
    let mut peers = vec![("empty", empty.xdp()?)];
    if let Some(c) = &c {
        tables.push(beside_c(&cases));
        peers.push(("C", c.xdp()?));
    }
    tables.extend(sizes::tables(&peers)?);
    Ok(Section {
        title: "What a frame costs".into(),
        about: vec![ABOUT.into(), SETTINGS.into()],
        tables,
        plots: vec![Plot {
            file: "frames.svg".into(),
            caption: "Cost per frame, relative to an empty program (lower is better)".into(),
            tables: vec![0],
            over: None,
        }],
    })
}

/// The same frames, and the guard, in traffic control.
pub(crate) fn section_of_tc(effort: &Effort, report: &mut Report) -> Result<Section> {
    let (netns, _listener) = listening("bench")?;
    let empty = EmptyTc::load()?;
    let yardstick = empty.program()?;
    let cases = netns.run(|| on_first_cpu(|| run(effort, yardstick, None)))?;
    let mut tables = vec![beside_empty(&cases)];
    let guard = challenges::tables(effort, Hook::Tc, &[]);
    tables.extend(
        report
            .had("cost of the guard in TC", guard)
            .unwrap_or_default(),
    );
    Ok(Section {
        title: "What a packet costs in traffic control".into(),
        about: vec![ABOUT_TC.into()],
        tables,
        plots: Vec::new(),
    })
}

fn run(effort: &Effort, empty: Program<'_>, c: Option<&Peer>) -> Result<Vec<Case>> {
    let hook = empty.hook();
    let mut data_paths = Vec::new();
    for with in With::ALL {
        data_paths.push(Tfo::new(with, hook)?);
    }
    let mut cases: Vec<Case> = cases();
    cases.retain(|case| case.reaches(hook));
    for case in &cases {
        check(case, &data_paths, c).with_context(|| case.name.clone())?;
    }
    // Round 0 is warm-up.
    for round in 0..=effort.rounds {
        progress("frames", round, effort);
        for index in 0..cases.len() {
            let index = (index + round) % cases.len();
            let case = &mut cases[index];
            let tfo = &mut data_paths[case.with as usize];
            let c = c.filter(|_| case.in_c());
            let (costs, in_c) = match c {
                Some(c) => {
                    let programs = [empty, Program::Xdp(c.xdp()?), tfo.program()?];
                    let measured = programs.map(|program| Measured::passing(program, &case.frame));
                    let [empty, c, tfo] = in_turns(measured, effort.runs, round)?;
                    ([empty, tfo], Some([empty, c, tfo]))
                }
                None => (measure(empty, tfo, case, effort.runs, round)?, None),
            };
            if round > 0 {
                case.rounds.push(costs);
                case.rounds_in_c.extend(in_c);
            }
        }
    }
    Ok(cases)
}

const ABOUT: &str = "One frame at a time with `BPF_PROG_TEST_RUN`, in one process and on one CPU. A time is the CPU time of the\n\
    system call divided by its runs. It includes the kernel's overhead per run, which is most of the empty\n\
    program's time. In a round the programs run in five turns, and the least of them counts. All runs use the\n\
    same frame, so caches are warm. TCP options are those of a Linux client.";
const SETTINGS: &str = "Counters by port and by size are always on. `exact` looks up the listener, the default of `tfo attach`; other\n\
    rows use `--mirror packet`. `by source` also counts by source prefix. `tunnels` reads through tunnels of every kind\n\
    (`--decap`), also with the frame in one. `events over rate` and `events told`\n\
    have a reader of events, at the default rate limit and without a limit. `events told` and its empty program\n\
    run in chunks that fit in the ring buffer.";
const ABOUT_TC: &str = "The same frames, measured in the same way, with the program that runs in traffic control; without those with a\n\
    VLAN tag, which the kernel takes off before. The empty program's time includes what the kernel does to a\n\
    packet before and after each run in this mode, not the price of the packet itself (`struct sk_buff`).";

/// Checks by the counters that each program takes the intended code path.
fn check(case: &Case, data_paths: &[Tfo], c: Option<&Peer>) -> Result<()> {
    let counted = data_paths[case.with as usize].count(&case.frame)?;
    ensure!(counted == case.counts.total, "{counted:?}");
    if let Some(c) = c.filter(|_| case.in_c()) {
        let counted = c.count(&case.frame, PORT)?;
        ensure!(counted == case.peer, "in C: {counted:?}");
    }
    Ok(())
}

/// Costs of the empty program and of the data path.
fn measure(
    empty: Program<'_>,
    tfo: &mut Tfo,
    case: &Case,
    runs: u32,
    round: usize,
) -> Result<[Cost; 2]> {
    let chunk = case.with.chunk(runs);
    if chunk == runs {
        tfo.listen()?;
        let programs = [empty, tfo.program()?];
        let measured = programs.map(|program| Measured::passing(program, &case.frame));
        return in_turns(measured, runs, round);
    }
    let [mut yardstick, mut subject] = [Vec::new(), Vec::new()];
    for _ in 0..runs / chunk {
        yardstick.push(Measured::passing(empty, &case.frame).cost(chunk)?);
        tfo.listen()?;
        subject.push(Measured::passing(tfo.program()?, &case.frame).cost(chunk)?);
    }
    Ok([Cost::mean(&yardstick), Cost::mean(&subject)])
}

fn beside_empty(cases: &[Case]) -> Table {
    let rows = cases.iter();
    let rows = rows.map(|case| Row::beside_empty(&case.name, &case.rounds));
    Table::beside_empty("Beside an empty program", "frame", rows.collect())
}

/// Cost relative to C: `peer.c` says what of the same work it does not do.
fn beside_c(cases: &[Case]) -> Table {
    let rows = cases.iter().filter(|case| case.in_c());
    let rows = rows.map(|case| Row::beside(&case.name, &case.rounds_in_c));
    Table::beside(
        "Beside an equal program in C",
        "frame",
        "C, Debian's clang",
        rows.collect(),
    )
}
