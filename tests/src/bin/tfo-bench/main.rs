//! What the data path costs for each packet, beside an empty XDP program, under `BPF_PROG_TEST_RUN`.
//!
//! Both programs run in one process on the same frames, one after the other in every round, so that
//! what else the machine does falls on both; a ratio is taken within a round. A time is the CPU time
//! of the whole system call over its runs: the kernel's own figure is cut to whole nanoseconds, and
//! counts what other processes do meanwhile. It contains what the kernel does around each run, which
//! is most of the empty program's time.

mod cases;
mod data_path;

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use clap::Parser;
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tfo_tests::{
    keys,
    netns::Netns,
    program::{KeyBytes, PASS},
    socket::Listener,
};

use crate::{
    cases::{BACKUP, Case, PORT, PRIMARY, Sample, cases},
    data_path::{Tfo, With},
};

/// Measures the data path beside an empty XDP program. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Rounds in which every frame is measured once; the table shows their median.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Runs of each program on each frame in a round.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The listener that the exact mirror finds.
    let netns = Netns::new("bench")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    // It holds cookies against the kernel's keys.
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    netns.run(|| run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { rounds, runs } = *arguments;
    let mut cpu = CpuSet::new();
    cpu.set(0);
    sched_setaffinity(None, &cpu).context("cannot stay on one CPU")?;

    let mut object = Ebpf::load(&empty_object()?)?;
    let empty: &mut Xdp = object
        .program_mut("empty")
        .context("no empty program")?
        .try_into()?;
    empty
        .load()
        .context("cannot load a program; it takes root")?;
    let mut data_paths = Vec::new();
    for with in With::ALL {
        data_paths.push(Tfo::new(with)?);
    }

    let mut cases = cases();
    for case in &cases {
        let counted = data_paths[case.with as usize].program.count(&case.frame)?;
        ensure!(counted == case.counts, "{}: {counted:?}", case.name);
    }
    print_machine()?;
    println!(
        "{rounds} rounds of {runs} runs; CPU time in ns per packet and ratio: median (least to most)\n"
    );
    // The first round warms up, and is not kept.
    for round in 0..=rounds as usize {
        for index in 0..cases.len() {
            let index = (index + round) % cases.len();
            let sample = {
                let case = &cases[index];
                measure(empty, &mut data_paths, case, runs, round % 2 == 0)?
            };
            if round > 0 {
                cases[index].samples.push(sample);
            }
        }
    }
    print_table(&cases);
    Ok(())
}

/// A key as the sysctl has it: four words, each as the machine would print it.
fn text(key: KeyBytes) -> String {
    let (words, _) = key.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    words
        .map(|word| format!("{word:08x}"))
        .collect::<Vec<_>>()
        .join("-")
}

/// Runs both programs on a frame.
fn measure(
    empty: &Xdp,
    data_paths: &mut [Tfo],
    case: &Case,
    runs: u32,
    tfo_first: bool,
) -> Result<Sample> {
    let tfo = &mut data_paths[case.with as usize];
    let chunk = case.with.chunk(runs);
    let mut time_tfo = || {
        chunks(runs, chunk, || {
            tfo.listen()?;
            time(tfo.program.xdp()?, &case.frame, chunk)
        })
    };
    let before = tfo_first.then(&mut time_tfo).transpose()?;
    let empty = chunks(runs, chunk, || time(empty, &case.frame, chunk))?;
    let tfo = before.map_or_else(time_tfo, Ok)?;
    Ok(Sample { empty, tfo })
}

/// The mean of the times of as many chunks as are in so many runs.
fn chunks(runs: u32, chunk: u32, mut time: impl FnMut() -> Result<f64>) -> Result<f64> {
    let number = runs / chunk;
    let mut sum = 0.0;
    for _ in 0..number {
        sum += time()?;
    }
    Ok(sum / f64::from(number))
}

/// Nanoseconds for one run of a program.
fn time(program: &Xdp, frame: &[u8], runs: u32) -> Result<f64> {
    let start = cpu_time()?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: runs,
        ..TestRunOptions::default()
    })?;
    let took = cpu_time()?.saturating_sub(start);
    ensure!(
        result.return_value == PASS,
        "verdict {}",
        result.return_value
    );
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}

/// The time that a CPU has worked for this thread.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

/// An object with the least XDP program that there is: `r0 = XDP_PASS; exit`.
fn empty_object() -> Result<Vec<u8>> {
    let code = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = object.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    object.append_section_data(section, &code, 8);
    object.add_symbol(Symbol {
        name: b"empty".to_vec(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    object.write().context("cannot write the empty program")
}

fn print_machine() -> Result<()> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed CPU", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    let jit = match jit.as_deref().map(str::trim) {
        Ok("0") => "the program is interpreted",
        _ => "the program is compiled",
    };
    println!("Linux {} on {cpu}; {jit}", kernel.trim());
    Ok(())
}

fn print_table(cases: &[Case]) {
    println!(
        "{:36} {:>22} {:>22} {:>20} {:>8}",
        "frame", "empty, ns", "tfo, ns", "ratio", "target"
    );
    for case in cases {
        let time =
            |[median, least, most]: [f64; 3]| format!("{median:.1} ({least:.1} to {most:.1})");
        let [median, least, most] = case.spread(|sample| sample.tfo / sample.empty);
        println!(
            "{:36} {:>22} {:>22} {:>20} {:>8}",
            case.name,
            time(case.spread(|sample| sample.empty)),
            time(case.spread(|sample| sample.tfo)),
            format!("{median:.2} ({least:.2} to {most:.2})"),
            case.target
                .map_or(String::new(), |ratio| format!("<= {ratio:.1}")),
        );
    }
}
