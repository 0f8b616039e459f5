//! Start-up time, scrape time, memory and idle CPU time of the controller.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixDatagram,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    http,
    process::Background,
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Pair, SERVER_INTERFACE},
};

use crate::{
    measure::{Effort, progress},
    report::{Row, Section, Table},
};

const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

/// Values of all rounds: milliseconds; `resident` in KiB; `idle` in microseconds of CPU time per second.
#[derive(Default)]
struct Figures {
    attach: Vec<f64>,
    ready: Vec<f64>,
    scrape: Vec<f64>,
    resident: Vec<f64>,
    idle: Vec<f64>,
}

/// Measures start-up, scrapes, memory and idle CPU time.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let mut figures = Figures::default();
    for round in 1..=effort.rounds {
        progress("controller", round, effort);
        let start = Instant::now();
        testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
        figures.attach.push(milliseconds(start));
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        figures.watch(&testbed, effort.idle)?;
        testbed.tfo.done(&["detach", "--all"])?;
    }
    let times = vec![
        Row::single("tfo attach, the whole command", figures.attach),
        Row::single("tfo run, from its start until it is ready", figures.ready),
        Row::single("a scrape of all metrics, over HTTP", figures.scrape),
    ];
    let table = |name: &str, unit: &str, rows| Table {
        name: name.into(),
        of: "measurement".into(),
        unit: unit.into(),
        rows,
        ..Table::default()
    };
    let resident = vec![Row::single("tfo run --metrics", figures.resident)];
    let idle = vec![Row::single("tfo run --metrics, idle", figures.idle)];
    Ok(Section {
        title: "The controller".into(),
        about: vec![ABOUT.into()],
        tables: vec![
            table("Time", "milliseconds", times),
            table("Memory", "KiB of resident memory", resident),
            table("CPU", "microseconds of CPU time per second", idle),
        ],
        plots: Vec::new(),
    })
}

const ABOUT: &str = "`tfo run` with one interface and metrics, without traffic. It is ready when it notifies the service manager:\n\
    attached, keys in force. The values have no baseline and hold only for this machine.";

impl Figures {
    /// Starts a controller, measures it, and stops it.
    fn watch(&mut self, testbed: &Testbed, idle: Duration) -> Result<()> {
        let path = env::temp_dir().join(format!("tfo-t{}.notify", process::id()));
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut command = Command::new(tfo::binary());
        command
            .args([
                "run",
                "-i",
                SERVER_INTERFACE,
                "--metrics",
                &METRICS.to_string(),
            ])
            .args(["--netns", testbed.pair.server.name()])
            .env("NOTIFY_SOCKET", &path);
        let start = Instant::now();
        let run = Background::start(&mut command);
        let ready = run.and_then(|run| wait_until_ready(&socket).map(|()| run));
        self.ready.push(milliseconds(start));
        fs::remove_file(&path)?;
        let run = ready?;
        for _ in 0..10 {
            let start = Instant::now();
            let answer = http::request(&testbed.pair.server, METRICS, "GET", "/metrics")?;
            self.scrape.push(milliseconds(start));
            ensure!(answer.status == 200, "a scrape got {}", answer.status);
        }
        let before = cpu_time(run.id())?;
        thread::sleep(idle);
        let worked = cpu_time(run.id())? - before;
        self.idle.push(worked as f64 / 1e3 / idle.as_secs_f64());
        self.resident.push(resident(run.id())?);
        let output = run.terminate(LIMIT)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn wait_until_ready(socket: &UnixDatagram) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let len = socket.recv(&mut message).context("tfo run is not ready")?;
        if String::from_utf8_lossy(&message[..len]).contains("READY=1") {
            return Ok(());
        }
    }
}

/// CPU time of all threads of a process, in nanoseconds.
fn cpu_time(process: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}
