//! What a frame costs.

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

/// Every frame, in every setting.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    // The listener that the exact mirror finds.
    let netns = Netns::new("bench")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    // It holds cookies against the kernel's keys.
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    let c = Peer::c(&[PRIMARY, BACKUP]);
    if let Err(error) = &c {
        report.miss("the equal C program", error);
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
    // The first round warms up, and is not kept.
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
            caption: "What a frame costs, beside an empty program (less is better)".into(),
            tables: vec![0],
            over: None,
        }],
    })
}

const ABOUT: &str = "One frame at a time, under `BPF_PROG_TEST_RUN`, in one process and on one CPU. A time is the CPU time of\n\
    the system call over its runs, and so contains what the kernel does around each run: that is most of\n\
    the empty program's. The frame is the same in all runs, so caches are warm. Options are a Linux client's.";
const SETTINGS: &str = "Counting per port and by size is in all figures. `exact` looks up the listener, as `tfo attach` does unless\n\
    told `--mirror packet`; `by source` counts by source prefix too; `events over rate` and `events told` have\n\
    a reader of events, at the default rate and without a limit. The rest is without these three. `events told`\n\
    runs in chunks that the ring has room for, and so does the empty program beside it.";

/// The programs take the ways that are to be measured.
fn check(case: &Case, data_paths: &[Tfo], c: Option<&Peer>) -> Result<()> {
    let counted = data_paths[case.with as usize].program.count(&case.frame)?;
    ensure!(counted == case.counts, "{}: {counted:?}", case.name);
    if let Some(c) = c.filter(|_| case.in_c()) {
        let counted = c.count(&case.frame, PORT)?;
        ensure!(counted == case.peer, "{} in C: {counted:?}", case.name);
    }
    Ok(())
}

/// A key as the sysctl has it: four words, each as the machine would print it.
pub(crate) fn text(key: KeyBytes) -> String {
    let (words, _) = key.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    words
        .map(|word| format!("{word:08x}"))
        .collect::<Vec<_>>()
        .join("-")
}

/// The empty program and ours on a frame.
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

/// What Rust costs: the C program does not do more, and is written for this alone.
fn beside_c(cases: &[Case]) -> Table {
    let measured = cases.iter().filter(|case| case.in_c());
    Table {
        name: "Beside an equal program in C".into(),
        of: "frame".into(),
        unit: "nanoseconds for a packet".into(),
        yardstick: Some("C, by Debian's clang".into()),
        subject: "tfo".into(),
        more_is_better: false,
        rows: measured
            .map(|case| Row::paired(&case.name, &case.peer_samples))
            .collect(),
    }
}
