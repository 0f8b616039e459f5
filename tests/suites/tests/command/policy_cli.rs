//! `tfo policy`: set, show, clear, and its output in the other commands.

use std::{fmt::Write as _, net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    keys::KeyFile,
    poll::eventually,
    process::ensure_says,
    socket::{Listener, Method, Settings},
    testbed::Testbed,
    tfo::LIMIT,
    veth::{Family, Pair, SERVER_INTERFACE},
};

fn refuses(testbed: &Testbed, arguments: &[&str], parts: &[&str]) -> Result<()> {
    testbed.tfo.run(arguments)?.ensure_refused(parts)
}

fn shown(testbed: &Testbed) -> Result<Value> {
    testbed.tfo.json(&["policy", "show"])
}

#[test]
fn a_policy_is_shown_changed_and_cleared() -> Result<()> {
    let testbed = Testbed::new()?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    ensure_says(&testbed.tfo.done(&["policy", "show"])?, &["no policy"])?;
    ensure!(testbed.tfo.json(&["status"])?["policy"] == serde_json::Value::Null);

    let said = testbed.tfo.done(&[
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
    let policy = shown(&testbed)?;
    for port in ["443", "80"] {
        let rule = &policy["ports"][port];
        ensure!(
            rule["limits"]["bad"] == bad && rule["dry_run"] == true,
            "{rule}"
        );
        ensure!(rule["actions"]["bad"] == "reissue");
        ensure!(rule["actions"]["valid"] == "pass");
    }
    ensure!(policy["default"]["actions"]["bad"] == "pass");

    // Settings that are not named keep their values.
    testbed.tfo.done(&[
        "policy",
        "set",
        "--port",
        "443",
        "--dry-run=false",
        "--data-per-port",
        "7/s",
    ])?;
    testbed.tfo.done(&[
        "policy",
        "set",
        "--valid",
        "fallback",
        "--max-sources",
        "99",
        "--prefix-v4",
        "24",
    ])?;
    let policy = shown(&testbed)?;
    let rule = &policy["ports"]["443"];
    ensure!(
        rule["limits"]["bad"] == bad && rule["dry_run"] == false,
        "{rule}"
    );
    ensure!(rule["limits"]["data"]["port"]["per_second"] == 7, "{rule}");
    ensure!(policy["ports"]["80"]["dry_run"] == true);
    ensure!(policy["default"]["actions"]["valid"] == "fallback");
    ensure!(policy["sources"] == json!({ "max": 99, "prefix_v4": 24, "prefix_v6": 64 }));
    let status = &testbed.tfo.json(&["status"])?["policy"];
    ensure!(
        *status == json!({ "rules": 3, "dry_run_rules": 1, "list_prefixes": 0 }),
        "{status}"
    );
    let said = testbed.tfo.done(&["status"])?;
    ensure!(
        said.contains("policy: 3 rules in force, 1 as a dry run\n"),
        "{said}"
    );

    // The policy survives an upgrade.
    let replace = [
        "attach",
        "--replace",
        SERVER_INTERFACE,
        "--source-prefix-v4",
        "24",
    ];
    ensure_says(&testbed.tfo.done(&replace)?, &["upgraded in place"])?;
    ensure!(shown(&testbed)? == policy);

    testbed.tfo.done(&["policy", "clear", "--port", "80"])?;
    ensure!(
        shown(&testbed)?["ports"]
            .as_object()
            .context("ports")?
            .len()
            == 1
    );
    testbed.tfo.done(&["policy", "clear"])?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    Ok(())
}

#[test]
fn a_file_replaces_all_that_is_in_force() -> Result<()> {
    let testbed = Testbed::new()?;
    testbed
        .tfo
        .done(&["policy", "set", "--port", "9", "--bad", "drop"])?;
    let list = KeyFile::new("192.0.2.0/24 # documentation\n\n2001:db8::/32\n192.0.2.0/24\n")?;
    let text = format!(
        "nothing-of-ours = true\n[policy]\ndeny = '{}'\n[policy.port.443]\nrequest-per-port = '5/s'\n",
        list.path()
    );
    let file = KeyFile::new(&text)?;
    testbed
        .tfo
        .done(&["policy", "set", "--file", file.path()])?;
    let policy = shown(&testbed)?;
    ensure!(policy["ports"].get("9").is_none(), "{policy}");
    ensure!(
        policy["lists"] == json!({ "allow": 0, "deny": 2 }),
        "{policy}"
    );
    ensure!(policy["ports"]["443"]["denied"] == "fallback", "{policy}");

    // An invalid policy changes nothing.
    for (text, parts) in [
        ("[policy.port.443]\nbad = 'sink'", vec![":2: ", "no action"]),
        (
            "[policy]\nallow = '/nowhere'",
            vec!["/nowhere", "No such file"],
        ),
        ("interfaces = ['eth0']", vec!["no section [policy]"]),
    ] {
        file.replace(text)?;
        refuses(&testbed, &["policy", "set", "--file", file.path()], &parts)?;
    }
    list.replace("192.0.2.0/24\n192.0.2.1/24\n")?;
    refuses(
        &testbed,
        &["policy", "set", "--allow", list.path()],
        &["line 2", "host bits"],
    )?;
    list.replace("2001:db8::/32\n")?;
    refuses(
        &testbed,
        &["policy", "set", "--allow", list.path()],
        &["2001:db8::/32", "deny list"],
    )?;
    ensure!(shown(&testbed)? == policy);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    refuses(
        &testbed,
        &["policy", "set", "--bad", "drop"],
        &["nothing is attached", "tfo attach"],
    )?;
    refuses(&testbed, &["policy", "clear"], &["nothing is attached"])?;
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    for (flags, part) in [
        (
            &["--port", "1", "--max-sources", "5"][..],
            "--port goes with",
        ),
        (&["--data", "reissue"], "possible values: pass, drop"),
    ] {
        let output = testbed.tfo.run(&[&["policy", "set"], flags].concat())?;
        ensure!(output.status.code() == Some(2), "{output:#?}");
        ensure_says(&output.stderr, &[part])?;
    }
    testbed
        .tfo
        .done(&["policy", "set", "--port", "1", "--bad", "drop"])?;
    refuses(
        &testbed,
        &["policy", "clear", "--port", "2"],
        &["port 2 has no rule"],
    )?;
    testbed.tfo.done(&["policy", "clear"])?;

    // A listener, then a host, that needs no cookie.
    let server = &testbed.pair.server;
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
    refuses(
        &testbed,
        &[&set[..], &["--bad", "reissue"]].concat(),
        &parts,
    )?;
    refuses(
        &testbed,
        &[&set[..], &["--valid-per-source", "1/s"]].concat(),
        &parts,
    )?;
    refuses(
        &testbed,
        &["policy", "set", "--bad", "fallback"],
        &["default rule", &at],
    )?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    testbed.tfo.done(&[&set[..], &["--bad", "drop"]].concat())?;
    testbed
        .tfo
        .done(&[&set[..], &["--bad", "reissue", "--no-cookie", "drop"]].concat())?;
    testbed.tfo.done(&["policy", "set", "--bad", "fallback"])?;
    // Without a rule for the port, the default rule applies.
    refuses(
        &testbed,
        &["policy", "clear", "--port", &port],
        &["default rule", &at],
    )?;
    server.set_sysctl("net.ipv4.tcp_fastopen", "515")?;
    refuses(
        &testbed,
        &["policy", "set", "--valid", "fallback"],
        &["515", "0x200"],
    )?;
    let doctor = testbed.tfo.run(&["doctor", SERVER_INTERFACE])?.stdout;
    ensure!(
        doctor.contains("policy without cookies") && doctor.contains("--no-cookie drop"),
        "{doctor}"
    );
    Ok(())
}

#[test]
fn the_packet_level_mirror_is_warned_of() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mirror", "packet"])?;
    let output = testbed.tfo.run(&["policy", "set", "--bad", "drop"])?;
    ensure!(output.status.success(), "{output:#?}");
    let warned = output.stderr.contains("warning") && output.stderr.contains("own keys");
    ensure!(warned, "{output:#?}");
    let doctor = testbed.tfo.run(&["doctor", SERVER_INTERFACE])?.stdout;
    ensure!(doctor.contains("policy and mirror"), "{doctor}");
    Ok(())
}

#[test]
fn a_hundred_thousand_prefixes_load() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut text = String::new();
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(text, "{}.{b}.{c}.0/24", 10 + a)?;
    }
    let list = KeyFile::new(&text)?;
    let start = Instant::now();
    let arguments = ["policy", "set", "--deny", list.path(), "--denied", "drop"];
    testbed.tfo.done(&arguments)?;
    println!("100,000 prefixes: {:?}", start.elapsed());
    ensure!(shown(&testbed)?["lists"]["deny"] == 100_000);
    let status = testbed.tfo.json(&["status"])?;
    ensure!(status["policy"]["list_prefixes"] == 100_000);
    let memory = status["memory"]["maps"]["policy_lists_in_force"].as_u64();
    println!(
        "in {} KiB of the kernel's",
        memory.context("no memory")? / 1024
    );
    Ok(())
}

#[test]
fn what_a_policy_does_is_told() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let port = listener.port().to_string();
    let connect = || testbed.after_handshake(&listener, Family::V4, Method::SendTo);
    let set = |more: &[&str]| {
        let arguments = ["policy", "set", "--port", &port, "--request", "fallback"];
        testbed.tfo.done(&[&arguments[..], more].concat())
    };
    // The event of a connection that requests a cookie.
    let event = |filter: &[&str]| -> Result<Value> {
        let arguments = ["events", "--json", "--count", "1"];
        let mut reader = testbed.tfo.start(&[&arguments[..], filter].concat())?;
        eventually("the reader has its event", LIMIT, || {
            testbed.pair.forget_cookies()?;
            connect()?;
            Ok(!reader.is_running()?)
        })?;
        Ok(serde_json::from_str(reader.wait(LIMIT)?.stdout.trim())?)
    };

    set(&["--dry-run"])?;
    testbed.pair.forget_cookies()?;
    connect()?;
    testbed.pair.ensure_cookie(Family::V4)?;
    let stats = testbed.equal()?.counters;
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
    testbed.pair.forget_cookies()?;
    connect()?;
    let cookie = testbed.pair.cached_cookie(Family::V4)?;
    ensure!(cookie.is_none(), "{cookie:02x?}");
    let stats = testbed.equal()?.counters;
    for counter in ["PolicyFallback", "PolicyRule", "ReasonPolicy"] {
        ensure!(stats[counter] == 1, "{counter}: {stats:?}");
    }
    let dry = stats["DryRunFallback"];
    let text = testbed.tfo.done(&["stats"])?;
    for part in [
        "\nwhat policies did\n  1  SYNs whose Fast Open option was removed (PolicyFallback)\n",
        "\nwhy\n  1  the rule for such SYNs (PolicyRule)\n",
        "(ReasonPolicy)",
        &format!("(dry run)\n  {dry}  SYNs whose Fast Open option would have been removed"),
    ] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    ensure!(!text.contains("PolicyDrop"), "{text}");
    let by_port = testbed.tfo.done(&["stats", "--by", "port"])?;
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

#[test]
fn data_at_most_once_is_set_and_shown() -> Result<()> {
    let testbed = Testbed::new()?;
    let set = |flags: &[&str]| testbed.tfo.run(&[&["policy", "set"][..], flags].concat());
    let said = set(&["--port", "443", "--valid", "once"])?;
    let line = "once: 443 by duplicate; remembers 262144 SYNs for 1h";
    ensure_says(&said.stdout, &[line])?;
    ensure_says(
        &said.stderr,
        &["until its key was replaced twice", "at most 30m"],
    )?;
    // The rest is kept, and a capacity fills whole lines.
    let flags = ["--once-lifetime", "2d", "--once-capacity", "1001"];
    ensure!(set(&flags)?.status.success());
    ensure!(
        set(&["--port", "443", "--once-by", "content"])?
            .status
            .success()
    );
    let policy = shown(&testbed)?;
    ensure!(policy["once"] == json!({ "lifetime_seconds": 172_800, "capacity": 1004 }));
    let rule = &policy["ports"]["443"];
    ensure!(rule["actions"]["valid"] == "once" && rule["once_by"] == "content");
    let own = ["cookies", "set", "--interval", "1h", "--lifetime", "3d"];
    testbed.tfo.done(&own)?;
    let said = testbed.tfo.run(&["doctor"])?;
    ensure!(
        said.stdout.contains("own cookies are good for 73h"),
        "{said:?}"
    );
    for (flags, parts) in [
        (&["--bad", "once"][..], &["--bad", "once"][..]),
        (&["--denied", "once"], &["--denied", "once"]),
        (
            &["--valid", "once", "--once-by", "port"],
            &["--once-by", "port"],
        ),
        (
            &["--once-lifetime", "0s"],
            &["--once-lifetime", "such as 24h"],
        ),
        (
            &["--once-capacity", "67108865"],
            &["--once-capacity", "67108864"],
        ),
    ] {
        let refused = set(flags)?;
        ensure!(refused.status.code() == Some(2), "{refused:?}");
        for part in parts {
            ensure!(refused.stderr.contains(part), "{part}: {refused:?}");
        }
    }
    testbed
        .pair
        .server
        .set_sysctl("net.ipv4.tcp_fastopen", "0x203")?;
    let parts = ["port 443", "0x200", "--no-cookie drop"];
    refuses(
        &testbed,
        &["policy", "set", "--port", "443", "--valid", "once"],
        &parts,
    )
}
