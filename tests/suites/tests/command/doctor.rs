//! `tfo doctor` on misconfigured hosts.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    kernel, keys,
    pins::PinsLock,
    process,
    socket::Method,
    testbed::Testbed,
    tfo::{self, LIMIT, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

/// Runs `tfo doctor` on the server's interface. Returns the exit status and the JSON output.
fn examine(tfo: &Tfo) -> Result<(i32, Value)> {
    let output = tfo.run(&["doctor", SERVER_INTERFACE, "--json"])?;
    let status = output.status.code().context("ended by a signal")?;
    let value = serde_json::from_str(&output.stdout);
    Ok((status, value.with_context(|| format!("{output:?}"))?))
}

/// Expected verdict and text for native XDP on veth: drivers report XDP features since Linux 6.3.
fn of_the_driver() -> Result<(&'static str, &'static str)> {
    Ok(if kernel::is_before(6, 3)? {
        (
            "unknown",
            "native XDP support is not reported; tfo tries it when it attaches",
        )
    } else {
        ("note", "supports native XDP, but veth would give up GRO")
    })
}

fn finding<'a>(found: &'a Value, check: &str) -> Result<&'a Value> {
    let mut findings = found["findings"].as_array().context("no findings")?.iter();
    findings
        .find(|each| each["check"] == check)
        .with_context(|| format!("no {check} in {found:#}"))
}

/// Fails unless the doctor has this finding and the exit status that follows from it.
fn ensure_found(tfo: &Tfo, check: &str, verdict: &str, says: &str) -> Result<()> {
    let (status, found) = examine(tfo)?;
    let finding = finding(&found, check)?;
    let text = finding["found"].as_str().context("no text")?;
    ensure!(
        finding["verdict"] == verdict && text.contains(says),
        "{finding:#}"
    );
    let bad = ["warning", "problem"].contains(&verdict);
    ensure!(
        !bad || status == 3 && finding["remedy"].is_string(),
        "{status} {finding:#}"
    );
    Ok(())
}

#[test]
fn a_healthy_server_passes() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    for _ in 0..2 {
        testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    }
    let (status, found) = examine(&testbed.tfo)?;
    ensure!(status == 0 && found["verdict"] != "problem", "{found:#}");
    for (check, says) in [
        ("kernel", "Linux "),
        ("privileges", "CAP_BPF"),
        ("mirror", "exact"),
        ("tcp_fastopen", "on for listeners"),
        ("keys", "has a cookie key"),
        ("listeners", "all 1 have Fast Open"),
        ("attached", "tc mode"),
        ("keys of the data path", "among them"),
        ("drift", "what the kernel counted"),
    ] {
        let finding = finding(&found, check)?;
        let text = finding["found"].as_str().context("no text")?;
        ensure!(
            finding["verdict"] == "ok" && text.contains(says),
            "{finding:#}"
        );
    }
    let (verdict, says) = of_the_driver()?;
    ensure_found(
        &testbed.tfo,
        "XDP",
        verdict,
        &format!("driver veth, MTU 1500: {says}"),
    )?;
    // Text output, not to a terminal: no colour.
    let text = testbed.tfo.done(&["doctor", SERVER_INTERFACE])?;
    ensure!(
        text.contains("0 problems, 0 warnings") && !text.contains('\x1b'),
        "{text}"
    );
    Ok(())
}

#[test]
fn settings_that_keep_fast_open_from_working_are_named() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    ensure_found(&tfo, "keys", "note", "no cookie key yet")?;
    ensure_found(&tfo, "listeners", "note", "nothing listens")?;
    ensure_found(&tfo, "attached", "note", "not attached")?;
    for (sysctl, value, check, verdict, says) in [
        (
            "tcp_fastopen",
            "1",
            "tcp_fastopen",
            "problem",
            "without bit 0x2",
        ),
        ("tcp_fastopen", "515", "no cookie", "warning", "NO COOKIE"),
        ("tcp_fastopen", "1027", "all listeners", "note", "0x400"),
        (
            "tcp_syncookies",
            "2",
            "SYN cookies",
            "problem",
            "Fast Open is off",
        ),
        ("tcp_syncookies", "0", "SYN cookies", "note", "dropped"),
    ] {
        let name = format!("net.ipv4.{sysctl}");
        let before = pair.server.sysctl(&name)?;
        pair.server.set_sysctl(&name, value)?;
        ensure_found(&tfo, check, verdict, says)?;
        pair.server.set_sysctl(&name, &before)?;
    }
    pair.server.configure(&["link set server0 mtu 9000"])?;
    // veth receives multi-buffer frames: native XDP works at any MTU.
    let (verdict, says) = of_the_driver()?;
    ensure_found(&tfo, "XDP", verdict, &format!("MTU 9000: {says}"))?;
    let _plain = pair.server.run(|| TcpListener::bind("127.0.0.1:0"))?;
    ensure_found(&tfo, "listeners", "warning", "none of 1")
}

#[test]
fn syn_cookies_are_counted_while_they_are_sent() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let listener = testbed.listen(Family::V4)?;
    testbed
        .pair
        .server
        .set_sysctl("net.ipv4.tcp_syncookies", "2")?;
    let mut doctor = testbed.tfo.start(&["doctor", SERVER_INTERFACE, "--json"])?;
    while doctor.is_running()? {
        testbed.exchange(&listener, Family::V4, Method::Plain)?;
    }
    let output = doctor.wait(LIMIT)?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    let text = &finding(&found, "SYN cookies")?["found"];
    let text = text.as_str().context("no text")?;
    ensure!(
        text.contains(" sent in the last") && !text.contains("(0 sent"),
        "{text}"
    );
    Ok(())
}

#[test]
fn keys_that_differ_are_named_and_the_remedy_helps() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mirror", "packet"])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
    let check = "keys of the data path";
    ensure_found(&testbed.tfo, check, "warning", "someone else changed")?;
    // The kernel accepts the cookie; the data path does not have the key.
    for _ in 0..2 {
        testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    }
    ensure_found(&testbed.tfo, "drift", "warning", "TCPFastOpenPassive -1")?;
    let (_, found) = examine(&testbed.tfo)?;
    for group in keys::OTHER.split('-') {
        ensure!(!found.to_string().contains(group), "a key is shown");
    }
    testbed.tfo.done(&["keys", "import"])?;
    ensure_found(&testbed.tfo, check, "ok", "among them")
}

#[test]
fn what_was_detached_behind_our_back_is_named() -> Result<()> {
    let testbed = Testbed::new()?;
    let attached = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?;
    let (_, program) = attached.context("not attached")?;
    let bpftool =
        |arguments: &[&str]| process::succeed(Command::new("bpftool").args(arguments), LIMIT);
    let links: Value = serde_json::from_str(&bpftool(&["--json", "link", "list"])?)?;
    let links = links.as_array().context("no links")?;
    let link = links.iter().find(|link| link["prog_id"] == program);
    let id = link.context("no link")?["id"].to_string();
    bpftool(&["link", "detach", "id", &id])?;
    ensure_found(&testbed.tfo, "attached", "problem", "detached it")?;
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    ensure_found(&testbed.tfo, "attached", "ok", "tc mode")
}

/// Nobody detached anything.
#[test]
fn a_new_interface_with_the_index_of_the_attached_one_is_named() -> Result<()> {
    let testbed = Testbed::new()?;
    let (tfo, server) = (&testbed.tfo, &testbed.pair.server);
    let index = &tfo.json(&["status"])?["interfaces"][0]["index"];
    // Otherwise an attach in another namespace may remove what is left of the old one.
    let lock = PinsLock::take(server)?;
    server.configure(&[
        format!("link del {SERVER_INTERFACE}"),
        format!("link add {SERVER_INTERFACE} index {index} type veth peer name peer0"),
    ])?;
    let status = tfo.json(&["status"])?;
    let interface = &status["interfaces"][0];
    ensure!(
        interface["replaced"] == true && interface["index"] == *index,
        "{status:#}"
    );
    let text = tfo.done(&["status"])?;
    ensure!(text.contains("a new interface"), "{text}");
    ensure_found(tfo, "attached", "problem", "this is a new interface")?;
    drop(lock);
    // The remedy.
    tfo.done(&["attach", SERVER_INTERFACE])?;
    ensure_found(tfo, "attached", "ok", "tc mode")
}

#[test]
fn pins_of_an_interface_that_is_gone_are_named() -> Result<()> {
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    // Otherwise an attach in another namespace may remove them.
    let lock = PinsLock::take(server)?;
    server.configure(&[format!("link del {SERVER_INTERFACE}")])?;
    let output = testbed.tfo.run(&["doctor", "--json"])?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    let finding = finding(&found, "stale pins")?;
    ensure!(
        output.status.code() == Some(3) && finding["verdict"] == "warning",
        "{finding:#}"
    );
    drop(lock);
    testbed.tfo.done(&["detach", "--all"])?;
    xdp::ensure_pinned(server, false)?;
    Ok(())
}

#[test]
fn other_programs_are_named() -> Result<()> {
    let pair = Pair::new()?;
    let mut other = xdp::Other::attach(&pair.server, SERVER_INTERFACE)?;
    let id = other.id()?;
    let testbed = Testbed::idle(pair)?;
    let check = "other programs";
    ensure_found(
        &testbed.tfo,
        check,
        "note",
        &format!("XDP program {id} (native)"),
    )?;
    for tc in [
        "qdisc add dev server0 clsact",
        "filter add dev server0 ingress u32 match u32 0 0",
    ] {
        let mut command = testbed.pair.server.command("tc");
        process::succeed(command.args(tc.split(' ')), LIMIT)?;
    }
    ensure_found(&testbed.tfo, check, "note", "classifiers (u32)")?;
    // A tfo program at TC is not reported as another program.
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    ensure_found(&testbed.tfo, "attached", "ok", "tc mode")?;
    let (_, found) = examine(&testbed.tfo)?;
    ensure!(
        !finding(&found, check)?.to_string().contains("TCX"),
        "{found:#}"
    );
    Ok(())
}

#[test]
fn who_is_not_root_is_told_what_was_not_seen() -> Result<()> {
    // Other users may have no access to the build directory.
    let directory = std::env::temp_dir().join(format!("tfo-t{}-doctor", std::process::id()));
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let binary = directory.join("tfo");
    fs::copy(tfo::binary(), &binary)?;
    let pair = Pair::new()?;
    let mut command = pair.server.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(&binary).args(["doctor", "--json"]);
    let output = process::output(&mut command, LIMIT);
    fs::remove_dir_all(&directory)?;
    let output = output?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    for (check, verdict) in [
        ("privileges", "warning"),
        ("BPF", "unknown"),
        ("keys", "unknown"),
        ("listeners", "unknown"),
        ("attached", "unknown"),
        ("tcp_fastopen", "ok"),
        ("mirror", "ok"),
        ("XDP", of_the_driver()?.0),
    ] {
        let finding = finding(&found, check)?;
        ensure!(finding["verdict"] == verdict, "{finding:#}");
    }
    Ok(())
}

#[test]
fn an_unknown_interface_is_refused() -> Result<()> {
    let pair = Pair::new()?;
    let output = Tfo::new(&pair.server).run(&["doctor", "eth99"])?;
    output.ensure_refused(&["eth99", SERVER_INTERFACE])
}
