//! The `[listeners]` section of the configuration: Fast Open for listeners that run already, and for those that come later.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    prometheus::{METRICS, get},
    socket::{Listener, Method},
    testbed::{Testbed, exchange, request_cookie},
    tfo::{self, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::running::{Running, count, eventually};

/// `CAP_DAC_READ_SEARCH` (2), `CAP_SYS_PTRACE` (19).
const HELPERS: u64 = 1 << 2 | 1 << 19;

fn plain(netns: &Netns, port: u16) -> Result<Listener> {
    Listener::plain(netns, SocketAddr::new(Family::V4.unspecified(), port))
}

/// Waits until the listener of `port` has this queue.
fn becomes(tfo: &Tfo, port: u16, queue: u32) -> Result<()> {
    let what = format!("port {port} has a queue of {queue}");
    eventually(&what, || Ok(queue_of(tfo, port)? == u64::from(queue))).map(drop)
}

fn queue_of(tfo: &Tfo, port: u16) -> Result<u64> {
    let listed = tfo.json(&["listeners"])?;
    let listeners = listed["listeners"].as_array().context("no listeners")?;
    let found = listeners.iter().find(|each| each["port"] == port);
    let limit = found.and_then(|each| each["limit"].as_u64());
    limit.with_context(|| format!("no {port} in {listed}"))
}

/// The process id of the service's helper; `None` where it has none.
fn helper(running: &Running) -> Result<Option<i32>> {
    let tasks = format!("/proc/{}/task", running.process.id());
    let mut children = String::new();
    for task in fs::read_dir(tasks)? {
        children += &fs::read_to_string(task?.path().join("children"))?;
    }
    let mut children = children.split_whitespace();
    Ok(children.next().map(str::parse).transpose()?)
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty())
}

/// A capability set of a process, such as `CapEff:`.
fn capabilities(pid: i32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name}"))?;
    Ok(u64::from_str_radix(value.trim(), 16)?)
}

#[test]
fn listeners_get_it_whenever_they_come() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = |more: &str| format!("interfaces = ['{SERVER_INTERFACE}']\n{more}");
    let both = "[listeners.port.80]\n[listeners.port.443]\nqueue = 33\n";
    let _early = plain(server, 443)?;
    let _other = plain(server, 8080)?;
    let file = KeyFile::new(&text(both))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    becomes(&testbed.tfo, 443, 33)?;
    let late = plain(server, 80)?;
    becomes(&testbed.tfo, 80, 256)?;
    request_cookie(&testbed.pair, &late, Family::V4)?;
    let taken = exchange(&testbed.pair, &late, Family::V4, Method::SendTo)?;
    ensure!(taken.in_syn, "{taken:?}");
    // One that comes in its place.
    drop(late);
    let again = plain(server, 80)?;
    becomes(&testbed.tfo, 80, 256)?;

    // The privileges are the helper's.
    let helper = helper(&running)?.context("no helper")?;
    for (name, expected) in [
        ("CapEff:", HELPERS),
        ("CapPrm:", HELPERS),
        ("CapBnd:", HELPERS),
        ("CapInh:", 0),
        ("NoNewPrivs:", 1),
    ] {
        ensure!(capabilities(helper, name)? == expected, "{name}");
    }
    let service = i32::try_from(running.process.id())?;
    ensure!(capabilities(service, "CapEff:")? & HELPERS == 0);

    // Another length; what is no longer named stays as it is.
    file.replace(&text("[listeners.port.443]\nqueue = 44\n"))?;
    running.reload()?;
    becomes(&testbed.tfo, 443, 44)?;
    drop(again);
    let _again = plain(server, 80)?;
    file.replace(&text(""))?;
    running.reload()?;
    ensure!(queue_of(&testbed.tfo, 443)? == 44 && queue_of(&testbed.tfo, 8080)? == 0);
    let log = running.log();
    // Said once for each.
    ensure!(
        count(&log, "0.0.0.0:80 of") == 2 && count(&log, "0.0.0.0:443 of") == 2,
        "{log}"
    );
    running.end_having_said(&["Fast Open queue 0, now 33", "Fast Open queue 33, now 44"])?;
    eventually("the helper ended", || Ok(!is_alive(helper))).map(drop)
}

/// The helper of a service that is killed ends; a service without the section has none.
#[test]
fn there_is_a_helper_for_as_long_as_it_is_needed() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let running = Running::start(Some(server), &["-i", SERVER_INTERFACE])?;
    ensure!(helper(&running)?.is_none());
    running.end()?;
    let text = format!("interfaces = ['{SERVER_INTERFACE}']\n[listeners.port.443]\n");
    let file = KeyFile::new(&text)?;
    let running = Running::start(Some(server), &["-c", file.path()])?;
    let pid = helper(&running)?.context("no helper")?;
    // A signal for the whole unit leaves it alone.
    let process = Pid::from_raw(pid).context("no process")?;
    kill_process(process, Signal::TERM)?;
    let _listener = plain(server, 443)?;
    becomes(&testbed.tfo, 443, 256)?;
    running.kill()?;
    eventually("the helper ended", || Ok(!is_alive(pid))).map(drop)
}

#[test]
fn what_keeps_a_listener_from_it_is_told() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let metrics = format!("[metrics]\nlisten = '{METRICS}'\n");
    let text = |more: &str| {
        format!("interfaces = ['{SERVER_INTERFACE}']\n{metrics}[listeners.port.443]\n{more}")
    };
    let file = KeyFile::new(&text("process = 'nginx'\n"))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    let _listener = plain(server, 443)?;
    let says = |part: &str| -> Result<()> {
        eventually(part, || {
            let health = get(server, "/healthz")?;
            Ok(health.status == 503 && health.body.contains(part))
        })
        .map(drop)
    };
    let well = || eventually("it is well", || Ok(get(server, "/healthz")?.status == 200)).map(drop);
    says("listeners without Fast Open: 0.0.0.0:443: it is held by")?;
    let scraped = get(server, "/metrics")?;
    ensure!(
        scraped.body.contains("tfo_listeners_refused 1"),
        "{}",
        scraped.body
    );
    server.set_sysctl("net.ipv4.tcp_fastopen", "515")?;
    file.replace(&text(""))?;
    running.reload()?;
    says("net.ipv4.tcp_fastopen = 515")?;
    ensure!(queue_of(&testbed.tfo, 443)? == 0);
    server.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    becomes(&testbed.tfo, 443, 256)?;
    well()?;
    // Without its helper the service goes on, and says what to do.
    let pid = helper(&running)?.and_then(Pid::from_raw);
    kill_process(pid.context("no helper")?, Signal::KILL)?;
    let _late = plain(server, 443 + 1)?;
    file.replace(&text("[listeners.port.444]\n"))?;
    running.reload()?;
    says("restart the service")?;
    running.end().map(drop)
}

/// The capabilities of the unit with its drop-in are enough; without the drop-in, the log says what is missing.
#[test]
fn five_capabilities_are_enough() -> Result<()> {
    // `Testbed` mounts the BPF file system, which these capabilities do not allow.
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    let text = format!("interfaces = ['{SERVER_INTERFACE}']\n[listeners.port.443]\n");
    let file = KeyFile::new(&text)?;
    let _listener = plain(server, 443)?;
    let unit = "--bounding-set=-all,+bpf,+net_admin,+perfmon";
    let with = format!("{unit},+sys_ptrace,+dac_read_search");
    let start = |capabilities: &str| {
        let mut command = server.command("setpriv");
        command
            .args([capabilities, "--inh-caps=-all", "--no-new-privs"])
            .arg(tfo::binary());
        Running::launch(command, None, &["-c", file.path()])
    };
    let mut without = start(unit)?;
    without.wait_for_log("CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")?;
    ensure!(queue_of(&testbed.tfo, 443)? == 0);
    without.end()?;
    let running = start(&with)?;
    becomes(&testbed.tfo, 443, 256)?;
    running.end().map(drop)
}

/// A section that comes with a reload, when the privileges are gone.
#[test]
fn a_section_that_comes_later_takes_a_restart() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let text = format!("interfaces = ['{SERVER_INTERFACE}']\n");
    let file = KeyFile::new(&text)?;
    let server = &testbed.pair.server;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    let _listener = plain(server, 443)?;
    file.replace(&format!("{text}[listeners.port.443]\n"))?;
    running.reload()?;
    running.wait_for_log("a helper that is started with the service: restart it")?;
    ensure!(queue_of(&testbed.tfo, 443)? == 0);
    running.end().map(drop)
}

/// Another namespace's listeners, by the top level's section and by one of its own.
#[test]
fn each_namespace_has_its_listeners() -> Result<()> {
    let (one, other) = (Testbed::idle(Pair::new()?)?, Testbed::idle(Pair::new()?)?);
    let section = |testbed: &Testbed, more: &str| {
        let name = testbed.pair.server.name();
        format!("[[namespace]]\nname = '{name}'\ninterfaces = ['{SERVER_INTERFACE}']\n{more}\n")
    };
    let text = [
        "[listeners.port.443]\nqueue = 5\n".to_owned(),
        section(&one, ""),
        section(&other, "listeners.port.443.queue = 6"),
    ];
    let file = KeyFile::new(&text.concat())?;
    let running = Running::start(None, &["-c", file.path()])?;
    let _listeners = [&one, &other].map(|testbed| plain(&testbed.pair.server, 443));
    becomes(&one.tfo, 443, 5)?;
    becomes(&other.tfo, 443, 6)?;
    running.end().map(drop)
}
