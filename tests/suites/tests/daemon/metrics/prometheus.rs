//! Prometheus on tfo's metrics, alert rules and dashboard.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    poll::eventually,
    prometheus::LIMIT,
    prometheus::{Prometheus, Served, dist, promtool},
    testbed::Testbed,
};
use tfo_userspace::metrics::METRICS;

use super::scrape::traffic;

fn rules(name: &str) -> String {
    let path = dist("prometheus").join(name);
    path.to_string_lossy().into_owned()
}

#[test]
fn alerts_fire_when_they_should_and_not_else() -> Result<()> {
    promtool(&["check", "rules", &rules("tfo.rules.yml")], "")?;
    promtool(&["test", "rules", &rules("tfo.rules.test.yml")], "")?;
    let text = fs::read_to_string(rules("tfo.rules.yml"))?;
    let tests = fs::read_to_string(rules("tfo.rules.test.yml"))?;
    for line in text.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            // At least one test of each alert for a healthy host, and one where it fires.
            let named = tests.matches(&format!("alertname: {alert}\n")).count();
            ensure!(named >= 2, "{alert} is not tested");
        }
    }
    ensure_known(&text)
}

/// Fails if `text` names a metric that is not in [`METRICS`].
fn ensure_known(text: &str) -> Result<()> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    for word in words.filter(|word| word.starts_with("tfo_")) {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| word.strip_suffix(part))
            .unwrap_or(word);
        let known = METRICS.iter().any(|metric| metric.name == name);
        ensure!(known, "there is no metric {word}");
    }
    Ok(())
}

/// The dashboard's queries, as Grafana sends them with all hosts selected.
fn dashboard() -> Result<Vec<String>> {
    let text = fs::read_to_string(dist("grafana/tfo.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().map(|panel| panel["targets"].as_array());
    let targets = targets.collect::<Option<Vec<_>>>().context("no targets")?;
    targets
        .into_iter()
        .flatten()
        .map(|target| {
            let expression = target["expr"].as_str().context("no expression")?;
            Ok(expression
                .replace("$instance", ".*")
                .replace("$netns", ".*")
                .replace("$__rate_interval", "10s"))
        })
        .collect()
}

#[test]
fn prometheus_scrapes_and_answers() -> Result<()> {
    let testbed = Testbed::new()?;
    let netns = &testbed.pair.server;
    let _served = Served::start(&testbed.tfo, netns, &["--port", "80"])?;
    traffic(&testbed)?;
    let stats = testbed.equal()?;
    // Prometheus starts after cached answers have expired, so that every scrape has these values.
    let prometheus = Prometheus::start(netns)?;
    for name in ["TCPFastOpenPassive", "TCPFastOpenCookieReqd", "Syns"] {
        let sum = format!("sum(tfo_datapath_total{{job=\"tfo\",counter=\"{name}\"}})");
        let expected = stats.counters[name].to_string();
        eventually(&format!("{name} is {expected}"), LIMIT, || {
            Ok(prometheus
                .value(&sum)
                .is_ok_and(|value| value.to_string() == expected))
        })?;
    }
    ensure!(prometheus.value("sum(abs(tfo_drift))")?.to_string() == "0");
    let quantile = "histogram_quantile(0.5, sum by (le) (tfo_syn_data_bytes_bucket))";
    // Each request has 17 bytes: the bucket from 16 to 31.
    let median = prometheus.value(quantile)?;
    ensure!((15.0..=31.0).contains(&median), "{median}");

    let mut answered = 0;
    let expressions = dashboard()?;
    ensure!(expressions.len() > 20, "{expressions:?}");
    for expression in &expressions {
        ensure_known(expression)?;
        let result = prometheus.query(expression)?;
        answered += usize::from(result.as_array().is_some_and(|it| !it.is_empty()));
    }
    println!(
        "{answered} of {} panels' expressions have a value",
        expressions.len()
    );
    ensure!(answered >= 20, "only {answered} have a value");
    ensure!(prometheus.query("sum(").is_err());

    let data = prometheus.api("/api/v1/rules")?;
    let rules = data["groups"][0]["rules"].as_array().context("no rules")?;
    ensure!(rules.len() == 32, "{data}");
    for rule in rules {
        let quiet = rule["health"] == "ok" && rule["state"] == "inactive";
        ensure!(quiet, "{rule}");
    }
    Ok(())
}
