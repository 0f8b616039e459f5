//! What becomes of honest clients while SYNs with data and bad cookies flood in from everywhere.

use std::{
    panic::resume_unwind,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};
use tfo_tests::{
    bed::REQUEST,
    socket::{Connection, Listener, Method},
    veth::{Family, Pair, server_port},
};

use crate::{
    field::{Defence, Field},
    measure::{Effort, last_cpu, progress, stay_on},
    peers::Peer,
    report::{Plot, Report, Row, Sample, Section, Table},
};

/// Frames of one system call.
const BURST: u32 = 16_384;
/// Frames that are sent at once.
const BATCH: u32 = 64;

/// What happened within one second.
#[derive(Clone, Copy, Debug)]
struct Second {
    /// Honest connections whose data was taken from the SYN.
    in_syn: f64,
    /// Honest connections.
    connections: f64,
    /// What the kernel counted as `TCPFastOpenPassive`.
    passive: f64,
    /// SYNs of the flood.
    flood: f64,
    /// How much of all CPUs was used, in percent.
    busy: f64,
}

/// Every defence, against the same flood.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let field = match Field::new() {
        Ok(field) => field,
        Err(error) => {
            let why = format!("{error:#}").replace('\n', " ");
            report.missing.push(("floods".into(), why));
            return Ok(Section::default());
        }
    };
    let mut seconds = vec![Vec::new(); Defence::ALL.len()];
    for round in 0..=effort.rounds {
        progress("floods", round, effort);
        for index in 0..Defence::ALL.len() {
            let index = (index + round) % Defence::ALL.len();
            let defence = Defence::ALL[index];
            defence
                .raise(&field)
                .with_context(|| format!("{defence:?}"))?;
            let second = measure(&field, defence, effort.load);
            defence.lower(&field)?;
            let second = second.with_context(|| format!("{defence:?}"))?;
            if round > 0 {
                seconds[index].push(second);
            }
        }
    }
    Ok(tables(&seconds))
}

fn measure(field: &Field, defence: Defence, time: Duration) -> Result<Second> {
    let pair = &field.bed.pair;
    // Another one each time: what the flood left in its queues is not to meet the next defence.
    let listener = &field.bed.listen(Family::V4)?;
    let done = AtomicBool::new(false);
    let sent = &AtomicU64::new(0);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener, &done));
        // The client has a cookie before it begins.
        let prepared = client(pair, listener.port());
        let generator = (defence != Defence::NoFlood).then(|| {
            scope.spawn(|| {
                field
                    .generator
                    .run(|| generate(&field.flood, listener.port(), &done, sent))
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
        server.join().unwrap_or_else(|panic| resume_unwind(panic));
        generated.transpose()?;
        watched
    })
}

/// What the client, the kernel and the CPUs do while the flood goes on.
fn watch(field: &Field, port: u16, sent: &AtomicU64, time: Duration) -> Result<Second> {
    // The generator, and what it sets off, have the first.
    stay_on(last_cpu())?;
    let pair = &field.bed.pair;
    // The flood's beginning is no part of it.
    thread::sleep(time / 4);
    let passive = || Ok::<_, anyhow::Error>(field.bed.kernel()?.get("TCPFastOpenPassive"));
    let (start, before) = (
        Instant::now(),
        (passive()?, sent.load(Ordering::Relaxed), cpu(pair)?),
    );
    let (mut connections, mut in_syn) = (0, 0);
    while start.elapsed() < time {
        // One that takes too long is one that was not served.
        if let Ok(taken) = client(pair, port) {
            connections += 1;
            in_syn += u32::from(taken);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (busy, all) = cpu(pair)?;
    let per_second = |number: f64| number / seconds;
    Ok(Second {
        in_syn: per_second(in_syn.into()),
        connections: per_second(connections.into()),
        passive: per_second((passive()? - before.0) as f64),
        flood: per_second((sent.load(Ordering::Relaxed) - before.1) as f64),
        busy: 100.0 * (busy - before.2.0) as f64 / (all - before.2.1).max(1) as f64,
    })
}

/// One honest connection; whether its data was taken from the SYN.
fn client(pair: &Pair, port: u16) -> Result<bool> {
    let server = server_port(Family::V4, port);
    let connection = Connection::open(&pair.client, server, Method::SendTo, REQUEST)?;
    ensure!(connection.receive()? == REQUEST, "another reply");
    let taken = connection.info()?.syn_data_taken;
    connection.finish()?;
    Ok(taken)
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
fn generate(flood: &Peer, port: u16, done: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    stay_on(0)?;
    let frame = Field::frame(port);
    while !done.load(Ordering::Relaxed) {
        flood.xdp()?.test_run(TestRunOptions {
            data_in: Some(&frame),
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

const ABOUT: &str = "Three namespaces: an honest client, the server, and a generator on another interface of the server. The flood is\n\
    SYNs with data and a random cookie, from random addresses of 198.18.0.0/15, as fast as one CPU can make them\n\
    (`BPF_F_TEST_XDP_LIVE_FRAMES`); what the server does with them runs on the same CPU. The client connects, sends its\n\
    request in the SYN, and reads the reply, one connection after another, on the other CPU. `net.ipv4.tcp_syncookies` is\n\
    1. `nftables` knows no cookies: it lets 10,000 SYNs with the option pass in a second. `tfo` is attached to both\n\
    interfaces, with a policy for bad cookies: all are dropped; or 10 a second are made requests, and the others dropped.";

fn tables(seconds: &[Vec<Second>]) -> Section {
    let names = Defence::ALL.map(Defence::name);
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
        name: name.into(),
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
    Section {
        title: "Floods".into(),
        about: vec![ABOUT.into()],
        tables: vec![
            with_yardstick(table(
                "Honest connections with data taken from the SYN",
                "a second",
                beside(|second| second.in_syn),
            )),
            with_yardstick(table(
                "Honest connections",
                "a second",
                beside(|second| second.connections),
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
            Table {
                more_is_better: false,
                ..table("CPUs in use", "percent of all", alone(|second| second.busy))
            },
        ],
        plots: vec![Plot {
            file: "floods.svg".into(),
            caption:
                "Honest connections with data taken from the SYN, beside no flood (more is better)"
                    .into(),
            tables: vec![0],
            over: None,
        }],
    }
}
