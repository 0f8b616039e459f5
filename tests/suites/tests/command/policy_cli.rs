//! What an operator does with policies, and sees of them.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_tests::{
    bed::Bed,
    keys::KeyFile,
    poll,
    socket::{Listener, Method, Settings},
    tfo::LIMIT,
    veth::{Family, Pair, SERVER_INTERFACE},
};

fn refuses(bed: &Bed, arguments: &[&str], parts: &[&str]) -> Result<()> {
    bed.tfo.run(arguments)?.ensure_refused(parts)
}

fn shown(bed: &Bed) -> Result<Value> {
    bed.tfo.json(&["policy", "show"])
}

#[test]
fn a_policy_is_shown_changed_and_cleared() -> Result<()> {
    let bed = Bed::new()?;
    ensure!(shown(&bed)? == json!({ "in_force": false }));
    ensure!(bed.tfo.done(&["policy", "show"])?.contains("no policy"));
    ensure!(bed.tfo.json(&["status"])?["policy"].is_null());

    let said = bed.tfo.done(&[
        "policy",
        "set",
        "--port",
        "443",
        "--port",
        "80",
        "--bad",
        "reissue",
        "--bad-per-source",
        "10/s burst 50",
        "--dry-run",
    ])?;
    for part in ["reissue", "dry run", "10/s burst 50", "443", "80"] {
        ensure!(said.contains(part), "no {part} in {said}");
    }
    let bad = json!({ "source": { "per_second": 10, "burst": 50 }, "port": null });
    let policy = shown(&bed)?;
    for port in ["443", "80"] {
        let rule = &policy["ports"][port];
        ensure!(
            rule["limits"]["bad"] == bad && rule["dry_run"] == true,
            "{rule}"
        );
        ensure!(rule["actions"]["bad"] == "reissue" && rule["actions"]["valid"] == "pass");
    }
    ensure!(policy["default"]["actions"]["bad"] == "pass");

    // What is not named stays.
    bed.tfo.done(&[
        "policy",
        "set",
        "--port",
        "443",
        "--dry-run=false",
        "--data-per-port",
        "7/s",
    ])?;
    bed.tfo.done(&[
        "policy",
        "set",
        "--valid",
        "fallback",
        "--max-sources",
        "99",
        "--prefix-v4",
        "24",
    ])?;
    let policy = shown(&bed)?;
    let rule = &policy["ports"]["443"];
    ensure!(
        rule["limits"]["bad"] == bad && rule["dry_run"] == false,
        "{rule}"
    );
    ensure!(rule["limits"]["data"]["port"]["per_second"] == 7, "{rule}");
    ensure!(policy["ports"]["80"]["dry_run"] == true);
    ensure!(policy["default"]["actions"]["valid"] == "fallback");
    ensure!(policy["sources"] == json!({ "max": 99, "prefix_v4": 24, "prefix_v6": 64 }));
    let status = &bed.tfo.json(&["status"])?["policy"];
    ensure!(
        *status == json!({ "rules": 3, "dry_run_rules": 1, "list_prefixes": 0 }),
        "{status}"
    );
    let said = bed.tfo.done(&["status"])?;
    ensure!(
        said.contains("policy: 3 rules in force, 1 as a dry run\n"),
        "{said}"
    );

    // It outlives an upgrade.
    let replace = [
        "attach",
        "--replace",
        SERVER_INTERFACE,
        "--source-prefix-v4",
        "24",
    ];
    ensure!(bed.tfo.done(&replace)?.contains("upgraded in place"));
    ensure!(shown(&bed)? == policy);

    bed.tfo.done(&["policy", "clear", "--port", "80"])?;
    ensure!(shown(&bed)?["ports"].as_object().context("ports")?.len() == 1);
    bed.tfo.done(&["policy", "clear"])?;
    ensure!(shown(&bed)? == json!({ "in_force": false }));
    Ok(())
}

#[test]
fn a_file_replaces_all_that_is_in_force() -> Result<()> {
    let bed = Bed::new()?;
    bed.tfo
        .done(&["policy", "set", "--port", "9", "--bad", "drop"])?;
    let list = KeyFile::new("192.0.2.0/24 # documentation\n\n2001:db8::/32\n192.0.2.0/24\n")?;
    let text = format!(
        "nothing-of-ours = true\n[policy]\ndeny = '{}'\n[policy.port.443]\nrequest-per-port = '5/s'\n",
        list.path()
    );
    let file = KeyFile::new(&text)?;
    bed.tfo.done(&["policy", "set", "--file", file.path()])?;
    let policy = shown(&bed)?;
    ensure!(policy["ports"].get("9").is_none(), "{policy}");
    ensure!(
        policy["lists"] == json!({ "allow": 0, "deny": 2 }),
        "{policy}"
    );
    ensure!(policy["ports"]["443"]["denied"] == "fallback", "{policy}");

    // A mistake changes nothing.
    for (text, parts) in [
        ("[policy.port.443]\nbad = 'sink'", vec![":2: ", "no action"]),
        (
            "[policy]\nallow = '/nowhere'",
            vec!["/nowhere", "No such file"],
        ),
        ("interfaces = ['eth0']", vec!["no section [policy]"]),
    ] {
        file.replace(text)?;
        refuses(&bed, &["policy", "set", "--file", file.path()], &parts)?;
    }
    list.replace("192.0.2.0/24\n192.0.2.1/24\n")?;
    refuses(
        &bed,
        &["policy", "set", "--allow", list.path()],
        &["line 2", "bits behind"],
    )?;
    list.replace("2001:db8::/32\n")?;
    refuses(
        &bed,
        &["policy", "set", "--allow", list.path()],
        &["2001:db8::/32", "deny list"],
    )?;
    ensure!(shown(&bed)? == policy);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let bed = Bed::idle(Pair::new()?)?;
    refuses(
        &bed,
        &["policy", "set", "--bad", "drop"],
        &["nothing is attached", "tfo attach"],
    )?;
    refuses(&bed, &["policy", "clear"], &["nothing is attached"])?;
    bed.tfo.done(&["attach", SERVER_INTERFACE])?;
    refuses(&bed, &["policy", "set"], &["nothing to set"])?;
    refuses(
        &bed,
        &["policy", "set", "--port", "1", "--max-sources", "5"],
        &["--port goes with"],
    )?;
    refuses(
        &bed,
        &["policy", "set", "--data", "reissue"],
        &["data", "pass or drop"],
    )?;
    bed.tfo
        .done(&["policy", "set", "--port", "1", "--bad", "drop"])?;
    refuses(
        &bed,
        &["policy", "clear", "--port", "2"],
        &["port 2 has no rule"],
    )?;
    bed.tfo.done(&["policy", "clear"])?;

    // A listener that needs no cookie, and the host that needs none.
    let server = &bed.pair.server;
    let settings = Settings {
        no_cookie: true,
        ..Settings::FAST_OPEN
    };
    let address = SocketAddr::new(Family::V4.unspecified(), 0);
    let listener = Listener::with(server, address, &settings)?;
    let port = listener.port().to_string();
    let set = ["policy", "set", "--port", &port];
    let at = format!("0.0.0.0:{port}");
    let parts = [&*at, "TCP_FASTOPEN_NO_COOKIE", "--no-cookie drop", &port];
    refuses(&bed, &[&set[..], &["--bad", "reissue"]].concat(), &parts)?;
    refuses(
        &bed,
        &[&set[..], &["--valid-per-source", "1/s"]].concat(),
        &parts,
    )?;
    refuses(
        &bed,
        &["policy", "set", "--bad", "fallback"],
        &["default rule", &at],
    )?;
    ensure!(shown(&bed)? == json!({ "in_force": false }));
    bed.tfo.done(&[&set[..], &["--bad", "drop"]].concat())?;
    bed.tfo
        .done(&[&set[..], &["--bad", "reissue", "--no-cookie", "drop"]].concat())?;
    bed.tfo.done(&["policy", "set", "--bad", "fallback"])?;
    // Without its rule, the default's would hold there.
    refuses(
        &bed,
        &["policy", "clear", "--port", &port],
        &["default rule", &at],
    )?;
    server.set_sysctl("net.ipv4.tcp_fastopen", "515")?;
    refuses(
        &bed,
        &["policy", "set", "--valid", "fallback"],
        &["515", "0x200"],
    )?;
    let doctor = bed.tfo.run(&["doctor", SERVER_INTERFACE])?.stdout;
    ensure!(
        doctor.contains("policy without cookies") && doctor.contains("--no-cookie drop"),
        "{doctor}"
    );
    Ok(())
}

#[test]
fn the_packet_level_mirror_is_warned_of() -> Result<()> {
    let bed = Bed::attach(Pair::new()?, &["--mirror", "packet"])?;
    let output = bed.tfo.run(&["policy", "set", "--bad", "drop"])?;
    ensure!(output.status.success(), "{output:#?}");
    let warned = output.stderr.contains("warning") && output.stderr.contains("own keys");
    ensure!(warned, "{output:#?}");
    let doctor = bed.tfo.run(&["doctor", SERVER_INTERFACE])?.stdout;
    ensure!(doctor.contains("policy and mirror"), "{doctor}");
    Ok(())
}

/// The bound is on a machine that has nothing else to do.
#[test]
fn a_hundred_thousand_prefixes_load_within_a_second() -> Result<()> {
    let bed = Bed::new()?;
    let mut text = String::new();
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(text, "{}.{b}.{c}.0/24", 10 + a)?;
    }
    let list = KeyFile::new(&text)?;
    let mut best = None;
    for bits in ["31", "32", "30"] {
        // Nothing that is in force is to be read first.
        bed.tfo.done(&["policy", "clear"])?;
        let start = Instant::now();
        let arguments = ["policy", "set", "--deny", list.path(), "--prefix-v4", bits];
        bed.tfo
            .done(&[&arguments[..], &["--denied", "drop"]].concat())?;
        let took = start.elapsed();
        best = Some(best.map_or(took, |best| took.min(best)));
    }
    let best = best.context("no round")?;
    println!("100,000 prefixes: {best:?}");
    ensure!(shown(&bed)?["lists"]["deny"] == 100_000);
    let status = bed.tfo.json(&["status"])?;
    ensure!(status["policy"]["list_prefixes"] == 100_000);
    let memory = status["memory"]["maps"]["policy_lists_in_force"].as_u64();
    println!(
        "in {} KiB of the kernel's",
        memory.context("no memory")? / 1024
    );
    ensure!(best < poll::patient(Duration::from_secs(1)), "{best:?}");
    Ok(())
}

#[test]
fn what_a_policy_does_is_told() -> Result<()> {
    let bed = Bed::new()?;
    let listener = bed.listen(Family::V4)?;
    let port = listener.port().to_string();
    let connect = || bed.after_handshake(&listener, Family::V4, Method::SendTo);
    let set = |more: &[&str]| {
        let arguments = ["policy", "set", "--port", &port, "--request", "fallback"];
        bed.tfo.done(&[&arguments[..], more].concat())
    };
    // The event of a connection that asks for a cookie.
    let event = |filter: &[&str]| -> Result<Value> {
        let arguments = ["events", "--json", "--count", "1"];
        let mut reader = bed.tfo.start(&[&arguments[..], filter].concat())?;
        let deadline = Instant::now() + LIMIT;
        while reader.is_running()? && Instant::now() < deadline {
            bed.pair.forget_cookies()?;
            connect()?;
        }
        Ok(serde_json::from_str(reader.wait(LIMIT)?.stdout.trim())?)
    };

    set(&["--dry-run"])?;
    bed.pair.forget_cookies()?;
    connect()?;
    // The client was given a cookie.
    ensure!(bed.pair.cached_cookie(Family::V4)?.is_some());
    let stats = bed.equal()?.counters;
    ensure!(
        stats["DryRunFallback"] == 1 && stats["DryRunRule"] == 1,
        "{stats:?}"
    );
    let told = event(&[])?;
    ensure!(
        told["action"] == "fallback" && told["cause"] == "rule",
        "{told}"
    );
    ensure!(
        told["dry_run"] == true && told["reason"].is_null(),
        "{told}"
    );

    set(&["--dry-run=false"])?;
    bed.pair.forget_cookies()?;
    connect()?;
    ensure!(bed.pair.cached_cookie(Family::V4)?.is_none());
    let stats = bed.equal()?.counters;
    for counter in ["PolicyFallback", "PolicyRule", "ReasonPolicy"] {
        ensure!(stats[counter] == 1, "{counter}: {stats:?}");
    }
    let dry = stats["DryRunFallback"];
    let text = bed.tfo.done(&["stats"])?;
    for part in [
        "\nwhat policies did\n  1  SYNs whose Fast Open option was taken out (PolicyFallback)\n",
        "\nwhy\n  1  the rule for such SYNs (PolicyRule)\n",
        "(ReasonPolicy)",
        &format!("(dry run)\n  {dry}  SYNs whose Fast Open option would have been taken out"),
    ] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    ensure!(!text.contains("PolicyDrop"), "{text}");
    let by_port = bed.tfo.done(&["stats", "--by", "port"])?;
    let head = by_port.lines().next().unwrap_or_default();
    ensure!(
        head.contains("fell back") && head.contains("dry fallback"),
        "{by_port}"
    );
    ensure!(!head.contains("dropped"), "{by_port}");
    let told = event(&["--reason", "policy"])?;
    ensure!(
        told["reason"] == "policy" && told["outcome"] == "request",
        "{told}"
    );
    ensure!(
        told["action"] == "fallback" && told["dry_run"] == false,
        "{told}"
    );
    Ok(())
}
