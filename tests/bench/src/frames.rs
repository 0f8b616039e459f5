//! Cost of the data path per frame.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use aya::programs::Xdp;
use tfo_testbed::{keys, netns::Netns, program::KeyBytes, socket::Listener};

use crate::{
    cases::{BACKUP, Case, PORT, PRIMARY, cases},
    data_path::{Tfo, With},
    measure::{Effort, pair, progress, stay_on, time},
    peers::Peer,
    report::{Plot, Report, Row, Sample, Section, Table},
    sizes,
};

/// Measures every frame in every configuration.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    // `Mirror::Exact` looks up this listener.
    let netns = Netns::new("bench")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    // The listener's keys are the kernel's.
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    let c = Peer::c(&[PRIMARY, BACKUP]);
    if let Err(error) = &c {
        report.miss("the equivalent C program", error);
    }
    netns.run(|| run(effort, c.ok().as_ref()))
}

fn run(effort: &Effort, c: Option<&Peer>) -> Result<Section> {
    stay_on(0)?;
    let empty = Peer::empty()?;
    let mut data_paths = Vec::new();
    for with in With::ALL {
        data_paths.push(Tfo::new(with)?);
    }
    let mut cases = cases();
    for case in &cases {
        check(case, &data_paths, c)?;
    }
    // Round 0 is warm-up.
    for round in 0..=effort.rounds {
        progress("frames", round, effort);
        for index in 0..cases.len() {
            let index = (index + round) % cases.len();
            let case = &mut cases[index];
            let tfo = &mut data_paths[case.with as usize];
            let sample = measure(empty.xdp()?, tfo, case, effort.runs, round)?;
            let peer = match c {
                Some(c) if case.in_c() => {
                    let programs = [c.xdp()?, tfo.program.xdp()?];
                    Some(pair(programs, &case.frame, effort.runs, round)?)
                }
                _ => None,
            };
            if round > 0 {
                case.samples.push(sample);
                case.peer_samples.extend(peer);
            }
        }
    }
    let mut tables = vec![frames(&cases)];
    let mut peers = vec![("empty", empty.xdp()?)];
    if let Some(c) = c {
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

const ABOUT: &str = "One frame at a time with `BPF_PROG_TEST_RUN`, in one process and on one CPU. A time is the CPU time of the\n\
    system call divided by its runs. It includes the kernel's overhead per run, which is most of the empty\n\
    program's time. All runs use the same frame, so caches are warm. TCP options are those of a Linux client.";
const SETTINGS: &str = "Counters by port and by size are always on. `exact` looks up the listener, the default of `tfo attach`; other\n\
    rows use `--mirror packet`. `by source` also counts by source prefix. `events over rate` and `events told`\n\
    have a reader of events, at the default rate limit and without a limit. `events told` and its empty program\n\
    run in chunks that fit in the ring buffer.";

/// Checks by the counters that each program takes the intended code path.
fn check(case: &Case, data_paths: &[Tfo], c: Option<&Peer>) -> Result<()> {
    let counted = data_paths[case.with as usize].program.count(&case.frame)?;
    ensure!(counted == case.counts, "{}: {counted:?}", case.name);
    if let Some(c) = c.filter(|_| case.in_c()) {
        let counted = c.count(&case.frame, PORT)?;
        ensure!(counted == case.peer, "{} in C: {counted:?}", case.name);
    }
    Ok(())
}

/// A key in the format of `net.ipv4.tcp_fastopen_key`: four little-endian words in hex, joined by `-`.
pub(crate) fn text(key: KeyBytes) -> String {
    let (words, _) = key.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    words
        .map(|word| format!("{word:08x}"))
        .collect::<Vec<_>>()
        .join("-")
}

/// Times of the empty program and of the data path.
fn measure(empty: &Xdp, tfo: &mut Tfo, case: &Case, runs: u32, round: usize) -> Result<Sample> {
    let chunk = case.with.chunk(runs);
    if chunk == runs {
        tfo.listen()?;
        return pair([empty, tfo.program.xdp()?], &case.frame, runs, round);
    }
    let chunks = runs / chunk;
    let [mut yardstick, mut subject] = [0.0; 2];
    for _ in 0..chunks {
        yardstick += time(empty, &case.frame, chunk)?;
        tfo.listen()?;
        subject += time(tfo.program.xdp()?, &case.frame, chunk)?;
    }
    let chunks = f64::from(chunks);
    Ok(Sample {
        yardstick: yardstick / chunks,
        subject: subject / chunks,
    })
}

fn frames(cases: &[Case]) -> Table {
    let row = |case: &Case| Row::paired(&case.name, &case.samples);
    Table::beside_empty(
        "Beside an empty program",
        "frame",
        cases.iter().map(row).collect(),
    )
}

/// Cost relative to C: `peer.c` does the same work, and has no other features.
fn beside_c(cases: &[Case]) -> Table {
    let measured = cases.iter().filter(|case| case.in_c());
    Table {
        name: "Beside an equal program in C".into(),
        of: "frame".into(),
        unit: "nanoseconds per packet".into(),
        yardstick: Some("C, Debian's clang".into()),
        subject: "tfo".into(),
        more_is_better: false,
        rows: measured
            .map(|case| Row::paired(&case.name, &case.peer_samples))
            .collect(),
    }
}
