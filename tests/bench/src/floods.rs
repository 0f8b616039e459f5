//! What becomes of honest clients while SYNs flood in from everywhere: plain ones, or with data and bad cookies.

use std::{
    panic::resume_unwind,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};
use tfo_testbed::{
    socket::{Connection, Listener, Method},
    testbed::REQUEST,
    veth::{Family, Pair, server_port},
};

use crate::{
    field::{Defence, Field, Flood},
    measure::{Effort, last_cpu, progress, stay_on},
    peers::Peer,
    report::{Plot, Report, Row, Sample, Section, Table},
};

/// Frames of one system call.
const BURST: u32 = 16_384;
/// Frames that are sent at once.
const BATCH: u32 = 64;

/// What happened within one second.
#[derive(Clone, Debug)]
struct Second {
    /// Honest connections whose data was taken from the SYN.
    in_syn: f64,
    /// Honest connections that asked for no Fast Open.
    plain: f64,
    /// Milliseconds until such a connection was open: half of them, and 99 of 100, were not slower. Those that
    /// never were are left out.
    connects: [f64; 2],
    /// What the kernel counted as `TCPFastOpenPassive`.
    passive: f64,
    /// SYNs of the flood.
    flood: f64,
    /// How much of all CPUs was used, in percent.
    busy: f64,
}

/// Every defence, against either flood.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let mut field = match Field::new() {
        Ok(field) => field,
        Err(error) => {
            report.miss("floods", &error);
            return Ok(Section::default());
        }
    };
    let mut section = Section {
        title: "Floods".into(),
        about: vec![ABOUT.into()],
        ..Section::default()
    };
    for flood in Flood::ALL {
        let seconds = against(flood, &mut field, effort)?;
        section.tables.extend(tables(flood, &seconds));
    }
    section.plots = plots();
    Ok(section)
}

/// Every defence against a flood, in turns.
fn against(flood: Flood, field: &mut Field, effort: &Effort) -> Result<Vec<Vec<Second>>> {
    let defences = flood.defences();
    let mut seconds = vec![Vec::new(); defences.len()];
    let rounds = Effort {
        rounds: effort.rounds.min(effort.floods),
        ..*effort
    };
    for round in 0..=rounds.rounds {
        progress(flood.name(), round, &rounds);
        for index in 0..defences.len() {
            let index = (index + round) % defences.len();
            let defence = defences[index];
            defence
                .raise(field)
                .with_context(|| format!("{defence:?}"))?;
            let second = measure(field, flood, defence, effort.load);
            defence.lower(field)?;
            let second = second.with_context(|| format!("{defence:?}"))?;
            if round > 0 {
                seconds[index].push(second);
            }
        }
    }
    Ok(seconds)
}

fn measure(field: &mut Field, flood: Flood, defence: Defence, time: Duration) -> Result<Second> {
    // Another one each time: what the flood left in its queues is not to meet the next defence.
    let listener = &field.testbed.listen(Family::V4)?;
    let frame = field.prepare(flood, listener.port())?;
    let (field, pair) = (&*field, &field.testbed.pair);
    let done = AtomicBool::new(false);
    let sent = &AtomicU64::new(0);
    thread::scope(|scope| {
        // On the client's CPU, flooded or not: to wake another one takes longer than to serve.
        let server = scope.spawn(|| stay_on(last_cpu()).map(|()| serve(listener, &done)));
        // The client has a cookie before it begins.
        let prepared = client(pair, listener.port(), Method::SendTo);
        let generator = (defence != Defence::NoFlood).then(|| {
            scope.spawn(|| {
                field
                    .generator
                    .run(|| generate(&field.flood, &frame, &done, sent))
            })
        });
        let port = listener.port();
        // A thread of its own, for it stays on a CPU.
        let watched = scope.spawn(move || {
            prepared?;
            watch(field, port, sent, time)
        });
        let watched = watched.join().unwrap_or_else(|panic| resume_unwind(panic));
        done.store(true, Ordering::Relaxed);
        let generated =
            generator.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        // Wakes the server.
        let _ = Connection::open(
            &pair.client,
            server_port(Family::V4, listener.port()),
            Method::Plain,
            REQUEST,
        );
        server.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        generated.transpose()?;
        defence.met(field, sent.load(Ordering::Relaxed))?;
        watched
    })
}

/// What the client, the kernel and the CPUs do while the flood goes on.
fn watch(field: &Field, port: u16, sent: &AtomicU64, time: Duration) -> Result<Second> {
    // The generator, and what it sets off, have the first.
    stay_on(last_cpu())?;
    let pair = &field.testbed.pair;
    // The flood's beginning is no part of it.
    thread::sleep(time / 4);
    let passive = || Ok::<_, anyhow::Error>(field.testbed.kernel()?.get("TCPFastOpenPassive"));
    let begun = Instant::now();
    let (taken, flooded, used) = (passive()?, sent.load(Ordering::Relaxed), cpu(pair)?);
    // One after the other: where the first kind is served slowly, the second need not be.
    let fast_open = Honest::come(pair, port, Method::SendTo, time / 2);
    let passive = passive()? - taken;
    let plain = Honest::come(pair, port, Method::Plain, time / 2);
    let seconds = begun.elapsed().as_secs_f64();
    let flood = sent.load(Ordering::Relaxed) - flooded;
    let (busy, all) = cpu(pair)?;
    let in_syn = fast_open.served.iter().filter(|served| served.in_syn);
    let connects = plain.served.iter();
    let mut connects: Vec<_> = connects
        .map(|served| served.connect.as_secs_f64() * 1e3)
        .collect();
    Ok(Second {
        in_syn: in_syn.count() as f64 / fast_open.seconds,
        plain: connects.len() as f64 / plain.seconds,
        connects: [50, 99].map(|percent| percentile(&mut connects, percent)),
        passive: passive as f64 / fast_open.seconds,
        flood: flood as f64 / seconds,
        busy: 100.0 * (busy - used.0) as f64 / (all - used.1).max(1) as f64,
    })
}

/// Honest connections of one kind.
struct Honest {
    /// Those that were served.
    served: Vec<Served>,
    /// For how long they came.
    seconds: f64,
}

impl Honest {
    /// One after another, for that long.
    fn come(pair: &Pair, port: u16, method: Method, time: Duration) -> Self {
        let begun = Instant::now();
        let mut served = Vec::new();
        while begun.elapsed() < time {
            // One that takes too long is one that was not served.
            served.extend(client(pair, port, method));
        }
        Self {
            served,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

/// An honest connection that was served.
struct Served {
    /// Its data was taken from the SYN.
    in_syn: bool,
    /// How long it took to open.
    connect: Duration,
}

fn client(pair: &Pair, port: u16, method: Method) -> Result<Served> {
    let server = server_port(Family::V4, port);
    let start = Instant::now();
    let connection = Connection::open(&pair.client, server, method, REQUEST)?;
    let connect = start.elapsed();
    ensure!(connection.receive()? == REQUEST, "another reply");
    let in_syn = connection.info()?.syn_data_taken;
    connection.finish()?;
    Ok(Served { in_syn, connect })
}

/// That many of a hundred are not greater; 0 of none.
fn percentile(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().saturating_sub(1);
    let at = (numbers.len() * percent / 100).min(last);
    numbers.get(at).copied().unwrap_or_default()
}

/// Answers whoever comes until it is enough.
fn serve(listener: &Listener, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        // One that went away meanwhile is none of the server's business.
        if let Ok(connection) = listener.accept()
            && let Ok(request) = connection.receive()
        {
            let _ = connection.send(&request);
        }
    }
}

/// Sends the flood, as fast as one CPU can.
fn generate(flood: &Peer, frame: &[u8], done: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    stay_on(0)?;
    while !done.load(Ordering::Relaxed) {
        flood.xdp()?.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: BURST,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        sent.fetch_add(BURST.into(), Ordering::Relaxed);
    }
    Ok(())
}

/// How long all CPUs worked, and how long they were there, in ticks.
fn cpu(pair: &Pair) -> Result<(u64, u64)> {
    let stat = pair.server.read(Path::new("/proc/stat"))?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let all = ticks.iter().sum::<u64>();
    // Idle, and waiting for a disk.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

const ABOUT: &str = "Three namespaces: an honest client, the server, and a generator on another interface of the server. A flood is of plain\n\
    SYNs, or of SYNs with data and a random cookie, from random addresses of 198.18.0.0/15, as fast as one CPU can make\n\
    them (`BPF_F_TEST_XDP_LIVE_FRAMES`); what the server does with them runs on the same CPU. The client connects, sends\n\
    its request, and reads the reply, one connection after another, on the other CPU: half of the time with Fast Open, half\n\
    of it without.\n\
    `net.ipv4.tcp_syncookies` is 1. nftables knows no cookies: it lets 10,000 SYNs with the option pass in a second, or\n\
    answers all SYNs itself (`synproxy`). `tfo` is attached to both interfaces, with the guard on; or with a policy for\n\
    bad cookies: all are dropped, or 10 a second are made requests, and the others dropped.";

fn tables(flood: Flood, seconds: &[Vec<Second>]) -> Vec<Table> {
    let names: Vec<_> = flood
        .defences()
        .iter()
        .map(|defence| defence.name())
        .collect();
    let beside = |figure: fn(&Second) -> f64| {
        let others = names.iter().zip(seconds).skip(1);
        let rows = others.map(|(name, subject)| {
            let rounds = seconds[0].iter().zip(subject);
            let samples = rounds.map(|(yardstick, subject)| Sample {
                yardstick: figure(yardstick),
                subject: figure(subject),
            });
            Row::paired(*name, &samples.collect::<Vec<_>>())
        });
        rows.collect::<Vec<_>>()
    };
    let alone = |figure: fn(&Second) -> f64| {
        let all = names.iter().zip(seconds);
        let rows = all.map(|(name, seconds)| Row::single(*name, seconds.iter().map(figure)));
        rows.collect::<Vec<_>>()
    };
    let table = |name: &str, unit: &str, rows| Table {
        name: format!("{}: {name}", flood.name()),
        of: "against the flood".into(),
        unit: unit.into(),
        subject: "with it".into(),
        more_is_better: true,
        rows,
        ..Table::default()
    };
    let with_yardstick = |table: Table| Table {
        yardstick: Some("no flood".into()),
        subject: "flooded".into(),
        ..table
    };
    let less_is_better = |table: Table| Table {
        more_is_better: false,
        ..table
    };
    vec![
        with_yardstick(table(
            "honest connections with data taken from the SYN",
            "a second",
            beside(|second| second.in_syn),
        )),
        with_yardstick(table(
            "honest connections without Fast Open",
            "a second",
            beside(|second| second.plain),
        )),
        less_is_better(table(
            "time to open a connection without Fast Open, median",
            "milliseconds",
            alone(|second| second.connects[0]),
        )),
        less_is_better(table(
            "time to open a connection without Fast Open, 99th percentile",
            "milliseconds",
            alone(|second| second.connects[1]),
        )),
        table(
            "TCPFastOpenPassive",
            "a second",
            alone(|second| second.passive),
        ),
        table(
            "SYNs of the flood",
            "a second",
            alone(|second| second.flood),
        ),
        less_is_better(table(
            "CPUs in use",
            "percent of all",
            alone(|second| second.busy),
        )),
    ]
}

/// Tables of each flood.
const TABLES: usize = 7;

fn plots() -> Vec<Plot> {
    let plot = |file: &str, what: &str, table| Plot {
        file: file.into(),
        caption: format!("{what}, beside no flood (more is better)"),
        tables: vec![table],
        over: None,
    };
    vec![
        plot(
            "flood-plain-in-syn.svg",
            "A flood of plain SYNs: honest connections with data taken from the SYN",
            0,
        ),
        plot(
            "flood-plain-plain.svg",
            "A flood of plain SYNs: honest connections without Fast Open",
            1,
        ),
        plot(
            "flood-cookies-in-syn.svg",
            "A flood of bad cookies: honest connections with data taken from the SYN",
            TABLES,
        ),
    ]
}
