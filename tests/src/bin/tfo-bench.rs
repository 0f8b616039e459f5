//! What the data path costs for each packet, beside an empty XDP program, under `BPF_PROG_TEST_RUN`.
//!
//! Both programs run in one process on the same frames, one after the other in every round, so that
//! what else the machine does falls on both; a ratio is taken within a round. A time is the CPU time
//! of the whole system call over its runs: the kernel's own figure is cut to whole nanoseconds, and
//! counts what other processes do meanwhile. It contains what the kernel does around each run, which
//! is most of the empty program's time.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use bytes::Bytes;
use clap::Parser;
use etherparse::PacketBuilder;
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tfo_common::counters::Counter::{
    self, CookieReqd, Passive, PassiveAltKey, PassiveFail, ReasonBadCookie,
};
use tfo_tests::{
    netns::Netns,
    packet::{self, Segment, fast_open, flag, linux_options},
    program::{Counted, KeyBytes, PASS, Program},
    socket::Listener,
};
use tfo_userspace::datapath::Mirror;

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

const PRIMARY: KeyBytes = *b"a primary key...";
const BACKUP: KeyBytes = *b"a backup key....";
const NO_KEY: KeyBytes = *b"not the server's";
const PORT: u16 = 443;
/// What a client sends with its cookie.
const REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n";

/// A frame to measure.
struct Case {
    name: String,
    /// How closely the program that is measured follows the kernel.
    mirror: Mirror,
    frame: Bytes,
    /// What the program counts for it, which shows that it took the way that is measured.
    counts: Counted,
    /// The most that it is to cost, in empty programs.
    target: Option<f64>,
    samples: Vec<Sample>,
}

/// Nanoseconds for a packet, in one round.
#[derive(Clone, Copy)]
struct Sample {
    empty: f64,
    tfo: f64,
}

impl Case {
    fn new(name: impl Into<String>, frame: impl Into<Bytes>, counts: Counted) -> Self {
        Self {
            name: name.into(),
            mirror: Mirror::Packet,
            frame: frame.into(),
            counts,
            target: None,
            samples: Vec::new(),
        }
    }

    /// The same with a look-up of the listener.
    fn exact(mut self) -> Self {
        self.name += ", exact";
        self.mirror = Mirror::Exact;
        self
    }

    fn target(mut self, ratio: f64) -> Self {
        self.target = Some(ratio);
        self
    }

    /// The median, the least and the most of a figure of the rounds.
    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> [f64; 3] {
        let mut figures: Vec<_> = self.samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        [figures[middle], figures[0], figures[figures.len() - 1]]
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The listener that the exact mirror finds.
    let netns = Netns::new("bench")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
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
    let programs = [Mirror::Packet, Mirror::Exact].map(|mirror| {
        let mut program = Program::load_as(mirror)?;
        program.set_keys(&[PRIMARY, BACKUP])?;
        Ok::<_, anyhow::Error>(program)
    });
    let [packet, exact] = programs;
    let (packet, exact) = (packet?, exact?);
    let tfo = |mirror| match mirror {
        Mirror::Packet => &packet,
        Mirror::Exact => &exact,
    };

    let mut cases = cases();
    for case in &cases {
        let counted = tfo(case.mirror).count(&case.frame)?;
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
                let tfo = tfo(case.mirror).xdp()?;
                measure(empty, tfo, &case.frame, runs, round % 2 == 0)?
            };
            if round > 0 {
                cases[index].samples.push(sample);
            }
        }
    }
    print_table(&cases);
    Ok(())
}

/// Runs both programs on a frame.
fn measure(empty: &Xdp, tfo: &Xdp, frame: &[u8], runs: u32, tfo_first: bool) -> Result<Sample> {
    let before = tfo_first.then(|| time(tfo, frame, runs)).transpose()?;
    let empty = time(empty, frame, runs)?;
    let tfo = before.map_or_else(|| time(tfo, frame, runs), Ok)?;
    Ok(Sample { empty, tfo })
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

fn cases() -> Vec<Case> {
    let v4: [IpAddr; 2] = [[192, 0, 2, 7], [198, 51, 100, 2]].map(IpAddr::from);
    let v6: [IpAddr; 2] = [
        [0x2001, 0xdb8, 1, 2, 3, 4, 5, 6],
        [0x2001, 0xdb8, 7, 8, 9, 0, 0, 1],
    ]
    .map(|segments: [u16; 8]| IpAddr::from(segments));
    let mut cases = vec![Case::new("ARP", arp(), Counted::nothing())];
    cases.extend(family("IPv4", v4, 3.0));
    cases.extend(family("IPv6", v6, 3.8));
    cases
}

/// The frames of one address family. A valid cookie is to cost `cookie_target`.
fn family(family: &str, [client, server]: [IpAddr; 2], cookie_target: f64) -> Vec<Case> {
    let segment = |flags| {
        let client = SocketAddr::new(client, 50_000);
        Segment::new(client, SocketAddr::new(server, PORT), flags)
    };
    let syn = |what: &str, fast_open: &[u8], data: &[u8], counters: &[Counter]| {
        let options = linux_options(fast_open);
        let frame = segment(flag::SYN).options(&options).data(data).frame();
        let counts = Counted::syn(PORT, counters, data);
        Case::new(format!("{family} {what}"), frame, counts)
    };
    let cookie = |key: &KeyBytes| fast_open(&packet::cookie(key, client, server));
    // An acknowledgement in the middle of a connection has timestamps.
    let timestamps = b"\x01\x01\x08\x0a\x5c\x3f\x10\x9a\x10\x2b\x3c\x4d";
    let ack = segment(flag::ACK).options(timestamps).padded_frame();
    let (udp, nothing) = (udp(client, server), Counted::nothing);
    let alt = &[Passive, PassiveAltKey];
    let bad = &[PassiveFail, ReasonBadCookie];
    vec![
        Case::new(format!("{family} UDP"), udp, nothing()),
        Case::new(format!("{family} TCP ACK"), ack, nothing()).target(1.3),
        syn("SYN, no Fast Open", b"", b"", &[]).target(1.9),
        syn("SYN, cookie request", &fast_open(b""), b"", &[CookieReqd]),
        syn("SYN, valid cookie", &cookie(&PRIMARY), REQUEST, &[Passive]).target(cookie_target),
        syn("SYN, backup key's cookie", &cookie(&BACKUP), REQUEST, alt),
        syn("SYN, invalid cookie", &cookie(&NO_KEY), REQUEST, bad),
        syn("SYN, no Fast Open", b"", b"", &[]).exact(),
        syn("SYN, cookie request", &fast_open(b""), b"", &[CookieReqd]).exact(),
        syn("SYN, valid cookie", &cookie(&PRIMARY), REQUEST, &[Passive]).exact(),
        syn("SYN, invalid cookie", &cookie(&NO_KEY), REQUEST, bad).exact(),
    ]
}

/// A question for an address, in a frame of Ethernet's least length.
fn arp() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2; 6], &[0x08, 0x06]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([
        2, 2, 2, 2, 2, 2, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 198, 51, 100, 2,
    ]);
    frame.resize(60, 0);
    frame
}

fn udp(client: IpAddr, server: IpAddr) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let network = match (client, server) {
        (IpAddr::V4(client), IpAddr::V4(server)) => link.ipv4(client.octets(), server.octets(), 64),
        (IpAddr::V6(client), IpAddr::V6(server)) => link.ipv6(client.octets(), server.octets(), 64),
        _ => unreachable!("both are of one family"),
    };
    let mut frame = Vec::new();
    network
        .udp(50_000, PORT)
        .write(&mut frame, &[0; 100])
        .expect("a vector takes it");
    frame
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
