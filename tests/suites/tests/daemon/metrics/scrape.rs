//! Values of a scrape.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    pins,
    poll::eventually,
    prometheus::{Samples, Served, get, promtool, scrape},
    raw::{RawClient, RawSyn},
    socket::Method,
    testbed::Testbed,
    tfo::LIMIT,
    veth::{Family, SERVER_INTERFACE, server_port},
};
use tfo_userspace::metrics::{Kind, METRICS};

/// Makes Fast Open connections in both families, and sends a SYN to a closed port. Returns the listener's port.
pub(crate) fn traffic(testbed: &Testbed) -> Result<u16> {
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let closed = server_port(Family::V4, 1);
    client.send(closed, &RawSyn::fast_open(34, &[], &[]))?;
    Ok(listener.port())
}

/// The sample of the server's interface with this label.
fn of_interface(samples: &Samples, metric: &str, label: &str, value: &str) -> Result<f64> {
    let series = format!("{metric}{{interface=\"{SERVER_INTERFACE}\",{label}=\"{value}\"}}");
    find(samples, &series)
}

fn find(samples: &Samples, series: &str) -> Result<f64> {
    // The order of labels is not specified.
    let sorted = |text: &str| -> Option<(String, BTreeSet<String>)> {
        let (name, labels) = text.trim_end_matches('}').split_once('{')?;
        Some((
            name.to_owned(),
            labels.split(',').map(str::to_owned).collect(),
        ))
    };
    if let Some(value) = samples.get(series) {
        return Ok(*value);
    }
    let wanted = sorted(series).with_context(|| format!("no {series}"))?;
    samples
        .iter()
        .find(|(series, _)| sorted(series).as_ref() == Some(&wanted))
        .map(|(_, value)| *value)
        .with_context(|| format!("no {series} in {samples:?}"))
}

fn same(ours: f64, theirs: i64, what: &str) -> Result<()> {
    ensure!(
        ours.to_string() == theirs.to_string(),
        "{what}: {ours}, not {theirs}"
    );
    Ok(())
}

#[test]
fn promtool_finds_nothing_wrong() -> Result<()> {
    let testbed = Testbed::new()?;
    let _served = Served::start(
        &testbed.tfo,
        &testbed.pair.server,
        &["--port", "80", "--port", "443"],
    )?;
    traffic(&testbed)?;
    let (text, samples) = scrape(&testbed)?;
    let remarks = promtool(&["check", "metrics"], &text)?;
    ensure!(remarks.is_empty(), "{remarks}");
    // promtool does detect errors.
    ensure!(promtool(&["check", "metrics"], "# TYPE a_total gauge\na_total 1\n").is_err());

    // The metrics served and the table of metrics are the same, except for metrics that need a schedule, a farm or a
    // guard.
    for metric in METRICS {
        let count = match metric.kind {
            Kind::Histogram => format!("{}_count{{", metric.name),
            _ => format!("{}{{", metric.name),
        };
        let bare = samples.contains_key(metric.name);
        let there = bare || samples.keys().any(|series| series.starts_with(&count));
        let scheduled = ["next", "rotations", "failures", "foreign", "farm", "guard_"];
        let scheduled = scheduled.iter().any(|it| metric.name.contains(it));
        ensure!(there || scheduled, "no {}", metric.name);
    }
    for line in text.lines().filter_map(|it| it.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        let known = METRICS.iter().any(|metric| metric.name == name);
        ensure!(known || name.starts_with("process_"), "{name}");
    }
    for address in ["10.77.", "fd77"] {
        ensure!(
            !text.contains(address),
            "the metrics have an address: {text}"
        );
    }
    Ok(())
}

#[test]
fn values_are_those_of_stats_and_of_the_kernel() -> Result<()> {
    let testbed = Testbed::new()?;
    let _served = Served::start(&testbed.tfo, &testbed.pair.server, &[])?;
    traffic(&testbed)?;
    let (text, samples) = scrape(&testbed)?;
    let (series, size) = (samples.len(), text.len());
    let took = find(&samples, "tfo_read_duration_seconds")?;
    println!("{series} series, {size} bytes, read in {took} s");
    let stats = testbed.equal()?;
    let kernel = testbed.kernel()?;
    ensure!(stats.counters["TCPFastOpenPassive"] == 4);
    ensure!(stats.counters["ReasonNoListener"] == 1);
    for counter in Counter::ALL {
        let name = counter.name();
        let apart = [&Counter::POLICY[..], &Counter::DRY_RUN, &Counter::GUARD].concat();
        if apart.contains(&counter) {
            continue;
        }
        let value = if Counter::REASONS.contains(&counter) {
            of_interface(&samples, "tfo_reasons_total", "reason", name)?
        } else {
            of_interface(&samples, "tfo_datapath_total", "counter", name)?
        };
        same(value, stats.counters[name], name)?;
        if Counter::MIRRORED.contains(&counter) {
            let series = |metric: &str| format!("{metric}{{counter=\"{name}\"}}");
            let value = find(&samples, &series("tfo_kernel_total"))?;
            same(value, kernel.get(name).cast_signed(), name)?;
            same(find(&samples, &series("tfo_drift"))?, 0, name)?;
        }
    }
    let labels = format!("{{interface=\"{SERVER_INTERFACE}\"}}");
    let of_data = |part: &str| find(&samples, &format!("tfo_syn_data_bytes_{part}{labels}"));
    same(of_data("sum")?, stats.counters["SynDataBytes"], "bytes")?;
    same(of_data("count")?, stats.counters["SynsWithData"], "SYNs")?;
    let sizes = testbed.tfo.json(&["stats", "--by", "size", "--all"])?;
    let mut count = 0;
    for bucket in 0..16_usize {
        let most = (2_u32 << bucket) - 1;
        let more = sizes["sizes"][bucket]["count"].as_i64();
        count += more.context("a size")?;
        let metric = "tfo_syn_data_bytes_bucket";
        let value = of_interface(&samples, metric, "le", &most.to_string())?;
        same(value, count, metric)?;
    }
    Ok(())
}

#[test]
fn keys_and_maps_are_those_that_other_commands_show() -> Result<()> {
    let testbed = Testbed::new()?;
    let _served = Served::start(&testbed.tfo, &testbed.pair.server, &[])?;
    traffic(&testbed)?;
    let (_, samples) = scrape(&testbed)?;
    let shown = testbed.tfo.json(&["keys", "show"])?;
    let primary = shown["kernel"][0].as_str().context("no key")?;
    let key = format!("tfo_key_info{{source=\"random\",primary=\"{primary}\"}}");
    same(find(&samples, &key)?, 1, "key")?;
    same(find(&samples, "tfo_keys_agree")?, 1, "agreement")?;
    let entries = |map: &str| of_interface(&samples, "tfo_map_entries", "map", map);
    // Two clients, and the source of the SYN to the closed port; the ports of both.
    same(entries("sources")?, 3, "sources")?;
    same(entries("ports")?, 2, "ports")?;
    let shown = testbed.tfo.json(&["status"])?;
    let memory = shown["memory"]["maps"]["port_slots"].as_i64();
    let series = "tfo_map_memory_bytes{map=\"port_slots\"}";
    same(
        find(&samples, series)?,
        memory.context("no memory")?,
        "memory",
    )
}

#[test]
fn named_ports_are_told_and_the_others_summed() -> Result<()> {
    let testbed = Testbed::new()?;
    let port = traffic(&testbed)?.to_string();
    let _served = Served::start(
        &testbed.tfo,
        &testbed.pair.server,
        &["--port", &port, "--port", "9"],
    )?;
    let (_, samples) = scrape(&testbed)?;
    for (port, passive, syns) in [(port.as_str(), 4, 6), ("9", 0, 0), ("other", 0, 1)] {
        for (counter, expected) in [("TCPFastOpenPassive", passive), ("Syns", syns)] {
            let labels = format!("\",counter=\"{counter}");
            let value = of_interface(
                &samples,
                "tfo_port_total",
                "port",
                &format!("{port}{labels}"),
            );
            same(value?, expected, port)?;
        }
    }
    let told = samples.keys().filter(|it| it.starts_with("tfo_port_total"));
    let apart = Counter::POLICY.len() + Counter::DRY_RUN.len() + Counter::GUARD.len();
    ensure!(told.count() == 3 * (Counter::ALL.len() - apart));
    Ok(())
}

#[test]
fn policies_are_told_by_port_and_dry_runs_apart() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let port = listener.port().to_string();
    let _served = Served::start(&testbed.tfo, &testbed.pair.server, &["--port", &port])?;
    let set = ["policy", "set", "--request", "fallback", "--port", &port];
    testbed.tfo.done(&[&set[..], &["--dry-run"]].concat())?;
    testbed.request_cookie(&listener, Family::V4)?;
    let (_, samples) = scrape(&testbed)?;
    let value = |samples: &Samples, metric: &str, port: &str, label: &str, expected| {
        let rest = format!("{port}\",{label}");
        let rest = rest.replacen('=', "=\"", 1);
        same(
            of_interface(samples, metric, "port", &rest)?,
            expected,
            metric,
        )
    };
    for (gauge, expected) in [
        ("rules", 2),
        ("dry_run_rules", 1),
        ("list_prefixes", 0),
        ("refused", 0),
    ] {
        same(
            find(&samples, &format!("tfo_policy_{gauge}"))?,
            expected,
            gauge,
        )?;
    }
    let dry = [
        "tfo_policy_dry_run_actions_total",
        "tfo_policy_dry_run_causes_total",
    ];
    let done = ["tfo_policy_actions_total", "tfo_policy_causes_total"];
    let labels = ["action=fallback", "cause=rule"];
    for (metric, label) in dry.iter().zip(labels) {
        value(&samples, metric, &port, label, 1)?;
        value(&samples, metric, "other", label, 0)?;
    }
    testbed
        .tfo
        .done(&[&set[..], &["--dry-run=false"]].concat())?;
    testbed.pair.forget_cookies()?;
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    let (_, samples) = scrape(&testbed)?;
    for (metric, label) in dry.iter().chain(&done).zip(labels.iter().cycle()) {
        value(&samples, metric, &port, label, 1)?;
    }
    value(&samples, done[0], &port, "action=drop", 0)
}

#[test]
fn what_is_wrong_is_told() -> Result<()> {
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    let _served = Served::start(&testbed.tfo, server, &[])?;
    let attached = format!("tfo_interface_attached{{interface=\"{SERVER_INTERFACE}\"}}");
    let (_, samples) = scrape(&testbed)?;
    same(find(&samples, &attached)?, 1, "attached")?;
    same(find(&samples, "tfo_no_cookie_mode")?, 0, "mode")?;
    ensure!(get(server, "/healthz")?.body == "ok\n");

    server.set_sysctl("net.ipv4.tcp_fastopen", "514")?;
    // The interface is renamed: no interface has the configured name.
    let away = ["link set server0 down", "link set server0 name away0"];
    server.configure(&away)?;
    testbed.tfo.done(&["detach", "away0"])?;
    let (_, samples) = scrape(&testbed)?;
    same(find(&samples, &attached)?, 0, "attached")?;
    same(find(&samples, "tfo_no_cookie_mode")?, 1, "mode")?;
    same(find(&samples, "tfo_sysctl_tcp_fastopen")?, 514, "mode")?;
    let health = get(server, "/healthz")?;
    // Not attached, or renamed, once the service has noticed.
    let says = format!("{SERVER_INTERFACE}: ");
    ensure!(
        health.status == 503 && health.body.contains(&says),
        "{health:?}"
    );

    // A part of the scrape that fails is reported, and the rest is served.
    server.configure(&["link set away0 name server0", "link set server0 up"])?;
    eventually("it is attached again", LIMIT, || {
        Ok(find(&scrape(&testbed)?.1, &attached)? >= 1.0)
    })?;
    let part = |name: &str| format!("tfo_scrape_error{{part=\"{name}\"}}");
    let (_, samples) = scrape(&testbed)?;
    same(find(&samples, &part("drift"))?, 0, "drift")?;
    std::fs::remove_file(pins::directory_of(&testbed.pair.server)?.join("state"))?;
    let (_, samples) = scrape(&testbed)?;
    same(find(&samples, &part("drift"))?, 1, "drift")?;
    same(find(&samples, &part("keys"))?, 0, "keys")?;
    same(find(&samples, &attached)?, 1, "attached")?;
    let health = get(server, "/healthz")?;
    ensure!(
        health.status == 503 && health.body.contains("drift: "),
        "{health:?}"
    );
    Ok(())
}
