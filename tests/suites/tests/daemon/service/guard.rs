//! The `[guard]` section of the configuration.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    keys::KeyFile,
    process::ensure_says,
    prometheus::{METRICS, get},
    socket::Method,
    testbed::Testbed,
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::running::{Running, eventually};

/// Time slots of 2^30 ns, 1.07 seconds.
const SHORT_SLOTS: [&str; 2] = ["TFO_TEST_GUARD_SLOT_SHIFT", "30"];

fn shown(testbed: &Testbed) -> Result<Value> {
    testbed.tfo.json(&["guard", "show"])
}

/// Waits until the metrics contain `part`. Answers are cached for a second.
fn told(testbed: &Testbed, part: &str) -> Result<()> {
    let metrics = || get(&testbed.pair.server, "/metrics");
    eventually(part, || Ok(metrics()?.body.contains(part))).map(drop)
}

#[test]
fn a_guard_is_in_force_for_as_long_as_its_section_stands() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let text = |guard: &str| {
        format!(
            "interfaces = ['{SERVER_INTERFACE}']\nmode = 'generic'\n[metrics]\nlisten = '{METRICS}'\n{guard}"
        )
    };
    let on = "[guard.port.443]\nmode = 'on'\n";
    let file = KeyFile::new(&text(on))?;
    let mut running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    let guard = shown(&testbed)?;
    ensure!(guard["ports"][0]["on"] == true, "{guard}");
    told(&testbed, "\ntfo_guard_on{port=\"443\",mode=\"on\"} 1\n")?;
    let status = testbed.tfo.json(&["status"])?;
    ensure!(status["guard"]["ports_on"] == json!([443]), "{status}");
    ensure!(
        status["guard"]["interfaces"] == json!([SERVER_INTERFACE]),
        "{status}"
    );

    // An invalid section changes nothing.
    file.replace(&text("[guard.port.443]\nmode = 'maybe'\n"))?;
    running.reload()?;
    ensure!(shown(&testbed)?["ports"][0]["on"] == true);

    // A reload reverts a manual change.
    testbed.tfo.done(&["guard", "set", "off", "--port", "80"])?;
    file.replace(&text(
        "[guard]\nreplies = '7/s'\n[guard.port.443]\nmode = 'on'\n",
    ))?;
    running.reload()?;
    let guard = shown(&testbed)?;
    let ports = guard["ports"].as_array().map(Vec::len);
    ensure!(
        ports == Some(1) && guard["replies"]["burst"] == 7,
        "{guard}"
    );

    // Without its section, the guard is removed.
    file.replace(&text(""))?;
    running.reload()?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    told(&testbed, "\ntfo_guard_rules 0\n")?;
    running.end_having_said(&[
        "guard: 1 rule in force",
        "\"maybe\" is no mode",
        "port 443: guarded from now on (on)",
        "guard: cleared",
        "port 443: not guarded any more, after",
    ])?;
    Ok(())
}

/// Services behind this host, and the secret that their hosts have.
#[test]
fn an_edge_is_in_force_for_as_long_as_its_section_stands() -> Result<()> {
    const SECRET: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";
    let testbed = Testbed::idle(Pair::new()?)?;
    let secret = KeyFile::new(SECRET)?;
    let text = |guard: &str| {
        format!(
            "interfaces = ['{SERVER_INTERFACE}']\nmode = 'tc'\n[metrics]\nlisten = '{METRICS}'\n\
             [guard]\nsecret-file = '{}'\n{guard}",
            secret.path()
        )
    };
    let edge = "[[guard.edge]]\nvip = '198.51.100.0/24'\nport = 443\nmode = 'on'\nmss = 1400\n";
    let file = KeyFile::new(&text(edge))?;
    let mut running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    let guard = shown(&testbed)?;
    let options = json!({ "window_scaling": true, "timestamps": true, "sack": true, "ecn": true });
    let expected = json!([{
        "vip": "198.51.100.0/24", "port": 443, "mss": 1400, "window_scale": null, "receive_buffer": null,
        "options": options,
    }]);
    ensure!(
        guard["edges"] == expected && guard["ports"][0]["on"] == true,
        "{guard}"
    );
    told(
        &testbed,
        "\ntfo_guard_on{port=\"198.51.100.0/24:443\",mode=\"on\"} 1\n",
    )?;
    let status = testbed.tfo.json(&["status"])?;
    ensure!(
        status["guard"]["services_on"] == json!(["198.51.100.0/24:443"]),
        "{status}"
    );
    ensure!(status["guard"]["ports_on"] == json!([]), "{status}");

    // What challenges state follows the sysctls.
    let rmem = "4096 131072 134217728";
    testbed.pair.server.set_sysctl("net.ipv4.tcp_rmem", rmem)?;
    eventually("the new scale is stated", || {
        Ok(shown(&testbed)?["window_scale"] != guard["window_scale"])
    })?;

    // Without a secret, what is in force stays.
    secret.replace("no secret")?;
    running.reload()?;
    eventually("the refusal is told", || {
        let health = get(&testbed.pair.server, "/healthz")?;
        Ok(health.body.contains("guard not in force"))
    })?;
    let now = shown(&testbed)?;
    ensure!(
        (&now["edges"], &now["secret"]) == (&guard["edges"], &guard["secret"]),
        "{now}"
    );

    // Another one is another one's.
    secret.replace(&SECRET.replace('3', "4"))?;
    file.replace(&text("[guard.port.443]\nmode = 'off'\n"))?;
    running.reload()?;
    let now = shown(&testbed)?;
    ensure!(
        now["edges"] == json!([]) && now["secret"] != guard["secret"],
        "{now}"
    );
    for line in [
        "198.51.100.0/24:443: guarded from now on (on)",
        secret.path(),
        "198.51.100.0/24:443: not guarded any more, after",
    ] {
        running.wait_for_log(line)?;
    }
    running.end()?;
    Ok(())
}

#[test]
fn where_nothing_can_be_guarded_the_service_runs_on() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\nmode = 'native'\n[metrics]\nlisten = '{METRICS}'\n[guard.default]\nmode = 'on'\n"
    );
    let file = KeyFile::new(&text)?;
    let running = Running::start(Some(server), &["-c", file.path()])?;
    let health = get(server, "/healthz")?;
    let said =
        health.body.contains("guard not in force") && health.body.contains("no native XDP program");
    ensure!(health.status == 503 && said, "{health:?}");
    ensure_says(&get(server, "/metrics")?.body, &["\ntfo_guard_refused 1\n"])?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    running.end().map(drop)
}

/// The capabilities that the service keeps are sufficient for the guard.
#[test]
fn three_capabilities_guard_renew_secrets_and_tell_of_switches() -> Result<()> {
    // `Testbed` mounts the BPF file system, which the service's capabilities do not allow.
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    let listener = testbed.listen(Family::V4)?;
    let port = listener.port();
    let text = |interfaces: &str, guard: &str| {
        format!("interfaces = [{interfaces}]\nmode = 'generic'\n{guard}")
    };
    let own = format!("'{SERVER_INTERFACE}'");
    let both = format!("{own}, 'lo'");
    let rule = format!("[guard.port.{port}]\nmode = 'auto'\nabove = '1/s'\nquiet = '2s'\n");
    let file = KeyFile::new(&text(&own, ""))?;
    let mut command = server.command("setpriv");
    command
        .env(SHORT_SLOTS[0], SHORT_SLOTS[1])
        .args([
            "--bounding-set=-all,+bpf,+net_admin,+perfmon",
            "--inh-caps=-all",
        ])
        .arg(tfo::binary());
    let mut running = Running::launch(command, None, &["-c", file.path()])?;
    running.wait_for("READY=1")?;
    file.replace(&text(&own, &rule))?;
    running.reload()?;
    file.replace(&text(&both, &rule))?;
    running.reload()?;
    let status = testbed.tfo.json(&["status"])?;
    let guarded = status["guard"]["interfaces"].as_array().map(Vec::len);
    ensure!(guarded == Some(2), "{status}");

    let on = || -> Result<bool> { Ok(shown(&testbed)?["ports"][0]["on"] == true) };
    // Longer than the lifetime of the first secrets.
    for _ in 0..3 {
        for _ in 0..4 {
            testbed.after_handshake(&listener, Family::V4, Method::Plain)?;
        }
        ensure!(on()?, "not guarded");
        eventually("a quiet time", || Ok(!on()?))?;
    }
    let counted = testbed.tfo.stats()?;
    let count = |name: &str| counted.counters[name];
    let (challenged, accepted) = (count("GuardChallenged"), count("GuardAccepted"));
    ensure!(challenged >= 6 && accepted == challenged, "{counted:?}");
    let ends = format!("port {port}: not guarded any more, after");
    eventually("the service tells of three ends", || {
        Ok(running.log().matches(&ends).count() >= 3)
    })?;
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    let on = lines(&format!("port {port}: guarded from now on (auto)"));
    let off = lines(&ends);
    ensure!((on, off) == (3, 3), "{log}");
    let sum: i64 = log.lines().filter_map(challenged_of).sum();
    ensure!(sum == challenged, "{challenged}: {log}");
    ensure!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// The number of challenged SYNs in a log line.
fn challenged_of(line: &str) -> Option<i64> {
    let (rest, _) = line.split_once(" SYNs were challenged")?;
    rest.rsplit(' ').next()?.parse().ok()
}
