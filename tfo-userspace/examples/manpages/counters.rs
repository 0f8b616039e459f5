//! docs/counters.md: every counter, from the tables of the code; its metric, from what is served.

use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    datapath::{GuardState, Snapshot, slug},
    metrics::{InterfaceFacts, NamespaceFacts, render_namespaces},
    model::{Guard, PortGuard, PortState},
};

/// Far from every other value that is rendered.
const FIRST: u64 = 7_000_000_000;
/// The labels of the facts that are rendered.
const LABELS: [&str; 2] = ["interface=\"eth0\"", "port=\"default\""];

const HEAD: &str = "\
# Counters

`cargo xtask counters` writes this page from the tables of the code, and a test holds it against them.
[reference.md](reference.md#counters) says what each of them counts exactly, [metrics.md](metrics.md) what metrics there are
beside these.

`tfo stats --all` and `--json` have every counter, `tfo stats --by port` those of a port. The metrics are
without their labels `netns`, `interface` and `port`, which [the table of metrics](metrics.md#table-of-metrics) has;
`tfo_port_total` has the counters of `tfo_datapath_total` and the reasons by port.
";

/// The sections: heading, what they are, counters.
fn sections() -> [(&'static str, &'static str, Vec<Counter>); 8] {
    [
        (
            "Mirrors of kernel counters",
            "They have the kernel's names, and move as the kernel's do: rows of `TcpExt` in `/proc/net/netstat`.",
            Counter::MIRRORED.into(),
        ),
        (
            "Reasons",
            "A SYN that asked for Fast Open and did not get it counts under exactly one.",
            Counter::REASONS.into(),
        ),
        ("SYNs and frames", "", Counter::OWN.into()),
        (
            "Policies",
            "Actions, then their causes: a SYN that a policy acted on counts under one of each.",
            Counter::POLICY.into(),
        ),
        (
            "Policies that run dry",
            "What would have been done.",
            Counter::DRY_RUN.into(),
        ),
        (
            "SYNs that a policy passed",
            "Although its rule has an action for them.",
            Counter::PASSED.into(),
        ),
        (
            "Guard",
            "[guard.md](guard.md#what-happens-to-a-syn) says when it does what.",
            Counter::GUARD.into(),
        ),
        (
            "Own cookies",
            "[cookies.md](cookies.md) has the terms.",
            Counter::OWN_COOKIES.into(),
        ),
    ]
}

/// The page.
pub(crate) fn page() -> String {
    let served = served();
    let mut page = HEAD.to_owned();
    for (heading, what, counters) in sections() {
        page += &format!("\n## {heading}\n\n");
        if !what.is_empty() {
            page += &format!("{what}\n\n");
        }
        let named = counters.iter().any(|it| Counter::REASONS.contains(it));
        let [name, line] = if named {
            [" `--reason` |", "---|"]
        } else {
            [""; 2]
        };
        page += &format!("| counter |{name} meaning | metric |\n|---|{line}---|---|\n");
        for counter in counters {
            let name = if named {
                format!(" `{}` |", slug(counter))
            } else {
                String::new()
            };
            let metric = series(&served, counter).map_or(String::new(), |it| format!("`{it}`"));
            page += &format!(
                "| `{}` |{name} {} | {metric} |\n",
                counter.name(),
                counter.help()
            );
        }
    }
    page
}

/// The text of `/metrics` where each counter has a value of its own.
fn served() -> String {
    let mut total = Counters::default();
    for (value, counter) in (FIRST..).zip(Counter::ALL) {
        total.add(counter, value);
    }
    let counters = Snapshot {
        total,
        ..Snapshot::default()
    };
    // Switches are served by rule, from another map.
    let rule = PortState {
        vip: None,
        port: 0,
        rule: PortGuard::default(),
        on: false,
        since: None,
        switches: total.get(Counter::GuardSwitchedOn),
    };
    render_namespaces(&[NamespaceFacts {
        guard: Some(GuardState {
            window_scale: 7,
            mss: 0,
            stale: None,
            guard: Guard::default(),
            ports: vec![rule],
            slot: 0,
        }),
        interfaces: vec![InterfaceFacts {
            name: "eth0".to_owned(),
            counters: Some(counters),
            ..InterfaceFacts::default()
        }],
        ..NamespaceFacts::default()
    }])
}

/// The series that has a counter's value, without interface and port.
fn series(served: &str, counter: Counter) -> Option<String> {
    let value = format!(" {}", FIRST + counter as u64);
    let mut lines = served.lines();
    let mut series = lines.find_map(|line| line.strip_suffix(&value))?.to_owned();
    for label in LABELS {
        for form in [
            format!(",{label}"),
            format!("{label},"),
            format!("{{{label}}}"),
        ] {
            series = series.replace(&form, "");
        }
    }
    Some(series)
}

#[cfg(test)]
mod tests {
    use tfo_userspace::metrics::METRICS;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/counters.md");

    #[test]
    fn the_page_is_up_to_date() {
        assert!(page() == DOCS, "run `cargo xtask counters`");
    }

    #[test]
    fn every_counter_has_its_row_and_its_metric() {
        let (page, served) = (page(), served());
        for counter in Counter::ALL {
            let row = format!("\n| `{}` |", counter.name());
            assert_eq!(page.matches(&row).count(), 1, "{row}");
            let metric = series(&served, counter).unwrap_or_default();
            let family = metric.split('{').next().unwrap_or_default();
            let is_family = METRICS.iter().any(|metric| metric.name == family);
            assert!(is_family, "{row} {metric:?}");
        }
    }
}
