//! Interfaces that appear, disappear or change name under a running service; reloads; scrapes of all namespaces.

use anyhow::{Result, ensure};
use tfo_testbed::{
    http,
    keys::KeyFile,
    netns::Netns,
    pins::PinsLock,
    process,
    testbed::Testbed,
    tfo::{self, LIMIT, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use super::running::{Running, eventually};

#[test]
fn interfaces_are_followed() -> Result<()> {
    let netns = Netns::new("followed")?;
    let make = ["link add nic0 type veth peer name nic1", "link set nic0 up"];
    netns.configure(&make)?;
    netns.configure(&["link set lo up"])?;
    let mut running = Running::start(Some(&netns), &["-i", "lo", "-i", "nic0"])?;
    let attached = |name: &str| xdp::attached(&netns, name);
    ensure!(attached("nic0")?.is_some());

    netns.configure(&["link del nic0"])?;
    netns.configure(&make)?;
    eventually("attached when it comes again", || {
        Ok(attached("nic0")?.is_some())
    })?;

    let before = attached("nic0")?;
    netns.configure(&["link set nic0 down", "link set nic0 name nic9"])?;
    ensure!(
        attached("nic9")? == before,
        "not attached under its new name"
    );

    let tfo = Tfo::new(&netns);
    tfo.done(&["detach", "lo"])?;
    eventually("attached again where someone detached it", || {
        Ok(attached("lo")?.is_some())
    })?;
    for line in ["nic0: renamed to nic9", "lo: another process detached"] {
        running.wait_for_log(line)?;
    }
    let log = running.end()?.stderr;
    // The interface may be deleted before the service's first look.
    ensure!(
        log.contains("nic0: gone") || log.contains("nic0: no such interface"),
        "{log}"
    );
    tfo.done(&["detach", "--all"])?;
    Ok(())
}

/// Indexes are used again: a new interface is neither the old one under another name, nor did anyone detach it.
#[test]
fn a_new_interface_with_an_old_ones_index_is_another() -> Result<()> {
    let netns = Netns::new("reused")?;
    netns.configure(&["link add nic0 index 77 type veth peer name nic1"])?;
    let mut running = Running::start(Some(&netns), &["-i", "nic0"])?;
    let attached = |name: &str| Ok(xdp::attached(&netns, name)?.is_some());
    ensure!(attached("nic0")?);

    let again = |old: &str, new: &str| {
        netns.configure(&[
            format!("link del {old}"),
            format!("link add {new} index 77 type veth peer name nic1"),
        ])
    };
    again("nic0", "nic7")?;
    running.wait_for_log("nic0: gone")?;
    again("nic7", "nic0")?;
    eventually("attached when it comes again", || attached("nic0"))?;
    again("nic0", "nic0")?;
    eventually("attached to the new one", || attached("nic0"))?;
    let log = running.end()?.stderr;
    for wrong in ["renamed", "nic7: attached", "another process detached"] {
        ensure!(!log.contains(wrong), "{wrong}: {log}");
    }
    Tfo::new(&netns).done(&["detach", "--all"])?;
    Ok(())
}

/// A name may have gone to another interface between the list of interfaces and the attach.
#[test]
fn an_interface_that_took_the_name_meanwhile_is_followed() -> Result<()> {
    let netns = Netns::new("taken")?;
    netns.configure(&["link set lo up"])?;
    let mut command = std::process::Command::new(tfo::binary());
    command.env("TFO_TEST_LOCK_WAIT", "3600");
    let mut running = Running::launch(command, Some(&netns), &["-i", "lo", "-i", "nic0"])?;
    running.wait_for("READY=1")?;

    let lock = PinsLock::take(&netns)?;
    let make = "link add nic0 type veth peer name nic1";
    netns.configure(&[make])?;
    running.wait_for_log("waiting for")?;
    netns.configure(&["link del nic0", make])?;
    drop(lock);
    running.wait_for_log("nic0: attached")?;
    netns.configure(&["link set nic0 name nic9"])?;
    running.wait_for_log("nic0: renamed to nic9")?;
    let log = running.end()?.stderr;
    let place = |line: &str| log.find(line);
    // It may have waited before it listed the first one.
    ensure!(
        place("nic0: gone") < place("nic0: attached"),
        "told of the new one first: {log}"
    );
    Tfo::new(&netns).done(&["detach", "--all"])?;
    Ok(())
}

#[test]
fn a_second_service_is_refused_with_the_first_ones_pid() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let running = Running::start(Some(&testbed.pair.server), &["-i", SERVER_INTERFACE])?;
    let output = testbed.tfo.run(&["run", "-i", SERVER_INTERFACE])?;
    let pid = format!("process {}", running.process.id());
    ensure!(
        output.status.code() == Some(1) && output.stderr.contains(&pid),
        "{pid}: {output:?}"
    );
    running.end()?;
    // The lock is released with the interface.
    Running::start(Some(&testbed.pair.server), &["-i", SERVER_INTERFACE])?.end()?;
    Ok(())
}

#[test]
fn a_reload_puts_new_settings_in_force_in_place() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let text = |mirror: &str| format!("interfaces = ['{SERVER_INTERFACE}']\nmirror = '{mirror}'\n");
    let file = KeyFile::new(&text("packet"))?;
    let mut running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let mirror = || -> Result<String> {
        let status = testbed.tfo.json(&["status"])?;
        Ok(status["interfaces"][0]["mirror"].to_string())
    };
    process::ensure_says(&mirror()?, &["packet"])?;
    file.replace(&text("exact"))?;
    running.reload()?;
    process::ensure_says(&mirror()?, &["exact"])?;
    // Counters continue.
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["TCPFastOpenCookieReqd"] == 1, "{stats:?}");
    running.end()?;
    Ok(())
}

#[test]
fn one_scrape_tells_of_every_namespace() -> Result<()> {
    let beds = [Testbed::idle(Pair::new()?)?, Testbed::idle(Pair::new()?)?];
    let [one, other] = beds
        .each_ref()
        .map(|testbed| testbed.pair.server.name().to_owned());
    let socket = std::env::temp_dir().join(format!("tfo-t{}.sock", std::process::id()));
    let section = |name: &str| {
        format!("[[namespace]]\nname = '{name}'\ninterfaces = ['{SERVER_INTERFACE}']\n")
    };
    let listen = format!("[metrics]\nlisten = 'unix:{}'\n", socket.display());
    let file = KeyFile::new(&[listen, section(&one), section(&other)].concat())?;
    let running = Running::start(None, &["-c", file.path()])?;
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--unix-socket"]);
    curl.arg(&socket).arg("http://tfo/metrics");
    let text = process::succeed(&mut curl, LIMIT)?;
    for name in [&one, &other] {
        for line in [
            format!(
                "tfo_interface_attached{{netns=\"{name}\",interface=\"{SERVER_INTERFACE}\"}} 1"
            ),
            format!("tfo_keys_agree{{netns=\"{name}\"}} 1"),
        ] {
            ensure!(text.contains(&line), "{line}: {text}");
        }
    }
    let ended = running.end()?;
    ensure!(!socket.exists(), "{ended:?}");
    Ok(())
}

/// `--netns` has a service listen there, and not where the operator is.
#[test]
fn metrics_name_the_namespace_in_which_they_listen() -> Result<()> {
    let netns = Netns::new("metrics")?;
    netns.configure(&["link add nic0 type veth peer name nic1"])?;
    let inside = ["-i", "nic0", "--metrics", "127.0.0.1:0", "--detach-on-exit"];
    let mut running = Running::start(Some(&netns), &inside)?;
    let place = format!(", in the network namespace {}\n", netns.name());
    running.wait_for_log(&place)?;
    running.end()?;
    // One for other namespaces listens in its own.
    let section = format!(
        "[metrics]\nlisten = '127.0.0.1:0'\n[[namespace]]\nname = '{}'\ninterfaces = ['nic0']\n",
        netns.name()
    );
    let file = KeyFile::new(&section)?;
    let running = Running::start(None, &["-c", file.path()])?;
    let log = running.end()?.stderr;
    let line = log.lines().find(|line| line.contains("metrics: serving"));
    ensure!(
        line.is_some_and(|line| !line.contains("network namespace")),
        "{log}"
    );
    Tfo::new(&netns).done(&["detach", "--all"]).map(drop)
}

#[test]
fn health_says_why_an_interface_is_not_attached() -> Result<()> {
    let netns = Netns::new("health")?;
    netns.configure(&["link add nic0 type veth peer name nic1"])?;
    let socket = std::env::temp_dir().join(format!("tfo-t{}-health.sock", std::process::id()));
    let listen = format!("unix:{}", socket.display());
    let interfaces = ["-i", "nic0", "-i", "nosuch0"];
    let metrics = ["--metrics", &listen, "--detach-on-exit"];
    let mut running = Running::start(Some(&netns), &[&interfaces[..], &metrics].concat())?;
    // From now on interfaces are followed.
    running.wait_for_log("nosuch0: no such interface yet")?;
    let says = |text: &str| {
        eventually(text, || {
            let answer = http::request_unix(&socket, "/healthz")?;
            Ok(answer.status == 503 && answer.body.contains(text))
        })
    };
    says("nosuch0: no interface of this name exists: it is attached once one does")?;
    netns.configure(&["link set nic0 name nic9"])?;
    says("nic0: renamed to nic9, and attached under that name: put nic9 into the configuration")?;
    running.end()?;
    Ok(())
}
