//! Leftovers of killed processes, deleted interfaces and deleted namespaces.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    netns::Netns,
    process,
    socket::Method,
    testbed::Testbed,
    tfo::{self, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use super::{LIMIT, cookie, is_pinned, shell, wait_for};

/// Number of kills.
const KILLS: usize = 200;
const MODES: [&str; 4] = ["auto", "native", "generic", "tc"];
/// The state is checked after each this many kills.
const LOOKS: usize = 20;

/// Attach, upgrade, move and detach are each killed at random times.
#[test]
fn whenever_a_process_is_killed_the_next_one_does_its_work() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let attach = ["attach", "--replace", SERVER_INTERFACE];
    let start = Instant::now();
    testbed.tfo.done(&attach)?;
    // An upper bound for busy machines: most of the work is in the first part.
    let longest = start.elapsed().min(Duration::from_millis(800));
    let server = &testbed.pair.server;
    let mut random = tfo_testbed::seed::rng_with(4)?;
    for kill in 1..=KILLS {
        let bits = random.u8(1..=32).to_string();
        let mode = MODES[random.usize(..MODES.len())];
        let arguments = match random.u8(0..4) {
            0 => vec!["detach", "--all"],
            1 => vec!["detach", SERVER_INTERFACE],
            _ => [&attach[..], &["--source-prefix-v4", &bits, "--mode", mode]].concat(),
        };
        let limit = if arguments[0] == "detach" {
            longest / 8
        } else {
            longest
        };
        let victim = testbed.tfo.start(&arguments)?;
        thread::sleep(limit.mul_f64(random.f64()));
        // Drop kills the process, if it still runs.
        drop(victim);
        if kill % LOOKS == 0 {
            testbed
                .tfo
                .done(&[&attach[..], &["--mode", "native"]].concat())?;
            let status = testbed.tfo.json(&["status"])?;
            let interfaces = status["interfaces"].as_array();
            ensure!(
                interfaces.is_some_and(|all| all.len() == 1)
                    && status["interfaces"][0]["mode"] == "native",
                "after {kill}: {status}"
            );
            testbed.tfo.done(&["detach", "--all"])?;
            ensure!(!is_pinned(cookie(server)?), "after {kill}");
            let program = xdp::attached(server, SERVER_INTERFACE)?;
            ensure!(program.is_none(), "after {kill}: {program:?}");
        }
    }
    // Counters work, and start level with the kernel's.
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let stats = testbed.tfo.stats()?;
    ensure!(
        stats.drift.values().all(|drift| *drift == 0)
            && stats.counters.get("TCPFastOpenPassive") == Some(&1),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn an_interface_that_is_gone_is_shown_and_makes_room_for_the_next() -> Result<()> {
    let server = Netns::new("gone")?;
    server.configure(&["link set lo up"])?;
    let tfo = Tfo::new(&server);
    let make = ["link add nic0 type veth peer name nic1", "link set nic0 up"];
    // Any attach elsewhere sweeps the pins of a dead namespace.
    tfo.done(&["attach", "lo"])?;
    for command in [&["attach", "nic0"][..], &["detach", "--all"]] {
        server.configure(&make)?;
        tfo.done(&["attach", "nic0"])?;
        server.configure(&["link del nic0"])?;
        let status = tfo.done(&["status"])?;
        ensure!(status.contains("(gone)"), "{status}");
        tfo.stats()?;
        server.configure(&make)?;
        tfo.done(command)?;
        let status = tfo.json(&["status"])?;
        let interfaces = status["interfaces"].as_array().map_or(0, Vec::len);
        ensure!(
            interfaces == 2 * usize::from(command[0] == "attach"),
            "{status}"
        );
        tfo.done(&["detach", "--all"])?;
        ensure!(!is_pinned(cookie(&server)?));
        tfo.done(&["attach", "lo"])?;
        server.configure(&["link del nic0"])?;
    }
    Ok(())
}

#[test]
fn a_renamed_interface_stays_attached() -> Result<()> {
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    let before = xdp::attached(server, SERVER_INTERFACE)?;
    server.configure(&[
        format!("link property add dev {SERVER_INTERFACE} altname other0"),
        format!("link set {SERVER_INTERFACE} down"),
        format!("link set {SERVER_INTERFACE} name nic.7"),
    ])?;
    ensure!(xdp::attached(server, "nic.7")? == before);
    let status = testbed.tfo.json(&["status"])?;
    ensure!(status["interfaces"][0]["name"] == "nic.7", "{status}");
    let refused = testbed.tfo.run(&["attach", "nic.7"])?;
    refused.ensure_refused(&["nic.7", "attached already"])?;
    testbed.tfo.done(&["detach", "nic.7"])?;
    xdp::ensure_detached(server, "nic.7")?;
    Ok(())
}

#[test]
fn the_pins_of_a_namespace_that_is_gone_are_swept_and_no_others() -> Result<()> {
    let other = Testbed::new()?;
    let here = Netns::new("here")?;
    let gone = {
        let gone = Netns::new("gone")?;
        gone.configure(&["link add nic0 type veth peer name nic1"])?;
        let mut attach = Command::new(tfo::binary());
        attach.args(["attach", "nic0", "--netns", gone.name()]);
        process::succeed(&mut attach, LIMIT)?;
        cookie(&gone)?
    };
    ensure!(is_pinned(gone));
    let tfo = Tfo::new(&here);
    // The kernel destroys a namespace some time after its name is deleted.
    wait_for("the pins to be swept", || {
        tfo.done(&["detach", "--all"])?;
        Ok((!is_pinned(gone)).then_some(()))
    })?;
    ensure!(is_pinned(cookie(&other.pair.server)?));
    let attached = xdp::attached(&other.pair.server, SERVER_INTERFACE)?;
    ensure!(attached.is_some());
    other.equal()?;
    Ok(())
}

#[test]
fn pins_that_cannot_be_made_are_named_and_nothing_is_attached() -> Result<()> {
    let pair = Pair::new()?;
    let read_only = format!(
        "mount --bind /sys/fs/bpf /sys/fs/bpf; mount -o remount,bind,ro /sys/fs/bpf
        exec $tfo attach {SERVER_INTERFACE} $net"
    );
    let output = process::output(&mut shell(&pair.server, &read_only), LIMIT)?;
    output.ensure_refused(&["/sys/fs/bpf", "read-only", "remount,rw"])?;
    // A limit of open files that is met on the way: what was made until then goes again. Files that whoever runs the
    // tests has left open would count.
    for files in [8, 12, 16, 20, 24] {
        let script = format!(
            "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n {files}; exec $tfo attach {SERVER_INTERFACE} $net"
        );
        let output = process::output(&mut shell(&pair.server, &script), LIMIT)?;
        ensure!(output.status.code() == Some(1), "{files}: {output:?}");
        ensure!(!is_pinned(cookie(&pair.server)?), "{files}: {output:?}");
        let program = xdp::attached(&pair.server, SERVER_INTERFACE)?;
        ensure!(program.is_none(), "{files}: {output:?}");
    }
    Ok(())
}
