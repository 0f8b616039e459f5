//! Legitimate clients during a SYN flood from random sources: plain SYNs, or SYNs with data and invalid cookies.

mod defence;
mod field;
mod second;
mod tables;

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

use self::{
    defence::Defence,
    field::{Field, Flood},
    second::Second,
    tables::{of_host, plots, tables},
};
use crate::{
    measure::{Effort, last_cpu, progress, stay_on},
    peers::Peer,
    report::{Report, Section},
};

/// Frames per `BPF_PROG_TEST_RUN`.
const BURST: u32 = 16_384;
/// Frames per batch (`batch_size`).
const BATCH: u32 = 64;

/// Measures every defence against both floods.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let Some(mut field) = report.had("floods", Field::new()) else {
        return Ok(Section::default());
    };
    let mut section = Section {
        title: "Floods".into(),
        about: vec![ABOUT.into()],
        ..Section::default()
    };
    for flood in Flood::ALL {
        let defences = Defence::against(flood);
        let seconds = against(flood, defences, &mut field, effort)?;
        section.tables.extend(tables(flood, defences, &seconds));
    }
    section.plots = plots();
    Ok(section)
}

/// Measures the defences of an edge, and of the host behind it, against plain SYNs.
pub(crate) fn section_of_edge(effort: &Effort, report: &mut Report) -> Result<Section> {
    let Some(mut field) = report.had("the flood at an edge", Field::with_host_behind()) else {
        return Ok(Section::default());
    };
    let flood = Flood::Plain;
    let seconds = against(flood, Defence::BEHIND, &mut field, effort)?;
    let mut tables = tables(flood, Defence::BEHIND, &seconds);
    tables.push(of_host(flood, Defence::BEHIND, &seconds));
    Ok(Section {
        title: "A flood at an edge".into(),
        about: vec![ABOUT_EDGE.into()],
        tables,
        ..Section::default()
    })
}

/// Measures every defence against one flood, in turns.
fn against(
    flood: Flood,
    defences: &[Defence],
    field: &mut Field,
    effort: &Effort,
) -> Result<Vec<Vec<Second>>> {
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
            // A new listener each time: SYNs left in the queues must not affect the next defence.
            let listener = field.listen()?;
            let raised = defence.raise(field, listener.port());
            raised.with_context(|| format!("{defence:?}"))?;
            let second = measure(field, &listener, flood, defence, effort.load);
            defence.lower(field)?;
            let second = second.with_context(|| format!("{defence:?}"))?;
            if round > 0 {
                seconds[index].push(second);
            }
        }
    }
    Ok(seconds)
}

fn measure(
    field: &mut Field,
    listener: &Listener,
    flood: Flood,
    defence: Defence,
    time: Duration,
) -> Result<Second> {
    let frame = field.prepare(flood, listener.port())?;
    let (field, pair) = (&*field, &field.testbed.pair);
    let done = AtomicBool::new(false);
    let sent = &AtomicU64::new(0);
    thread::scope(|scope| {
        // On the client's CPU: a cross-CPU wakeup takes longer than serving the request.
        let server = scope.spawn(|| stay_on(last_cpu()).map(|()| serve(listener, &done)));
        // The client obtains its cookie before the flood starts.
        let prepared = client(pair, listener.port(), Method::SendTo);
        let generator = (defence != Defence::NoFlood).then(|| {
            scope.spawn(|| {
                field
                    .generator
                    .run(|| generate(&field.flood, &frame, &done, sent))
            })
        });
        let port = listener.port();
        // Its own thread, since it is pinned to a CPU.
        let watched = scope.spawn(move || {
            prepared?;
            watch(field, port, sent, time)
        });
        let watched = watched.join().unwrap_or_else(|panic| resume_unwind(panic));
        done.store(true, Ordering::Relaxed);
        let generated =
            generator.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        // Unblocks the server's accept(2).
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

/// Measures the client, the kernel's counters and CPU utilization during the flood.
fn watch(field: &Field, port: u16, sent: &AtomicU64, time: Duration) -> Result<Second> {
    // The generator and the softirqs it causes run on the first CPU.
    stay_on(last_cpu())?;
    let pair = &field.testbed.pair;
    // Skips the start of the flood.
    thread::sleep(time / 4);
    let begun = Instant::now();
    let (taken, flooded, used) = (field.passive()?, sent.load(Ordering::Relaxed), cpu(pair)?);
    let arrived = field.segments()?;
    // One kind after the other, so that slow connections of one kind do not delay the other.
    let fast_open = Honest::come(pair, port, Method::SendTo, time / 2);
    let passive = field.passive()? - taken;
    let plain = Honest::come(pair, port, Method::Plain, time / 2);
    let seconds = begun.elapsed().as_secs_f64();
    let flood = sent.load(Ordering::Relaxed) - flooded;
    let segments = field.segments()? - arrived;
    let honest = (fast_open.served.len() + plain.served.len()).max(1);
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
        segments: segments as f64 / honest as f64,
        busy: 100.0 * (busy - used.0) as f64 / (all - used.1).max(1) as f64,
    })
}

/// Legitimate connections of one kind.
struct Honest {
    /// Successful connections.
    served: Vec<Served>,
    /// Duration of the measurement.
    seconds: f64,
}

impl Honest {
    /// Opens one connection after another for `time`.
    fn come(pair: &Pair, port: u16, method: Method, time: Duration) -> Self {
        let begun = Instant::now();
        let mut served = Vec::new();
        while begun.elapsed() < time {
            // A connection that times out is not counted.
            served.extend(client(pair, port, method));
        }
        Self {
            served,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

/// A successful legitimate connection.
struct Served {
    /// The server accepted the SYN data.
    in_syn: bool,
    /// Duration of connect(2).
    connect: Duration,
}

fn client(pair: &Pair, port: u16, method: Method) -> Result<Served> {
    let server = server_port(Family::V4, port);
    let start = Instant::now();
    let connection = Connection::open(&pair.client, server, method, REQUEST)?;
    let connect = start.elapsed();
    ensure!(connection.receive()? == REQUEST, "unexpected reply");
    let in_syn = connection.info()?.syn_data_taken;
    connection.finish()?;
    Ok(Served { in_syn, connect })
}

/// The given percentile; 0 for an empty slice.
fn percentile(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().saturating_sub(1);
    let at = (numbers.len() * percent / 100).min(last);
    numbers.get(at).copied().unwrap_or_default()
}

/// Echoes the request of every connection until `done`.
fn serve(listener: &Listener, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        // A client may have timed out and closed its connection.
        if let Ok(connection) = listener.accept()
            && let Ok(request) = connection.receive()
        {
            let _ = connection.send(&request);
        }
    }
}

/// Sends the flood from the first CPU at full speed until `done`.
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

/// Busy time and total time of all CPUs, in ticks.
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
    // idle and iowait.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

const ABOUT: &str = "Three namespaces: a legitimate client, the server, and a generator on a second interface of the server. A flood\n\
    has plain SYNs, or SYNs with data and a random cookie, from random addresses in 198.18.0.0/15, at the full speed\n\
    of one CPU (`BPF_F_TEST_XDP_LIVE_FRAMES`); the server's receive path runs on the same CPU. The client connects,\n\
    sends a request and reads the reply, one connection after another, on the other CPU: half of the time with Fast\n\
    Open, half without.\n\
    `net.ipv4.tcp_syncookies` is 1. nftables does not verify cookies: it passes 10,000 SYNs with the option per\n\
    second, or answers all SYNs itself (`synproxy`). `tfo` is attached to both interfaces, with the guard on, or with\n\
    a policy for invalid cookies: drop all, or turn 10 per second into cookie requests and drop the rest.";

const ABOUT_EDGE: &str = "As above, but the server is an edge that forwards to the host of the service, in a namespace of its own. Both have the\n\
    same cookie key, and where the edge challenges, the same secret. All run on the same two CPUs.";
