//! The metrics of the guard, as text.

use std::time::Duration;

use crate::{
    datapath::GuardState,
    metrics::{InterfaceFacts, NamespaceFacts, render_namespaces},
    model::{Guard, MAX_METRIC_PORTS, PortGuard, PortState},
};

fn facts(ports: Vec<PortState>) -> NamespaceFacts {
    NamespaceFacts {
        guard: Some(GuardState {
            guard: Guard::default(),
            ports,
            window_scale: 7,
            mss: 0,
            stale: None,
            slot: 7,
        }),
        interfaces: vec![InterfaceFacts {
            name: "eth0".to_owned(),
            guarded: true,
            ..InterfaceFacts::default()
        }],
        ..NamespaceFacts::default()
    }
}

fn port(port: u16, on: bool) -> PortState {
    PortState {
        vip: None,
        port,
        rule: PortGuard::default(),
        on,
        since: on.then_some(Duration::from_secs(9)),
        switches: 2,
    }
}

#[test]
fn ports_are_told_by_number_as_far_as_they_are_few() {
    let text = render_namespaces(&[facts(vec![port(0, false), port(443, true)])]);
    for series in [
        "tfo_guard_rules 2",
        "tfo_guard_refused 0",
        r#"tfo_guard_interface{interface="eth0"} 1"#,
        r#"tfo_guard_on{port="default",mode="off"} 0"#,
        r#"tfo_guard_on{port="443",mode="off"} 1"#,
        r#"tfo_guard_switches_total{port="443"} 2"#,
        r#"tfo_guard_switch_age_seconds{port="443"} 9"#,
    ] {
        assert!(text.contains(&format!("\n{series}\n")), "{series}\n{text}");
    }
    let many = (1..=70).map(|number| port(number, number == 70));
    let text = render_namespaces(&[facts(many.collect())]);
    assert_eq!(text.matches("tfo_guard_on{").count(), MAX_METRIC_PORTS + 1);
    for series in [
        "tfo_guard_on{port=\"other\"} 1",
        "tfo_guard_switches_total{port=\"other\"} 12",
    ] {
        assert!(text.contains(series), "{text}");
    }
    let text = render_namespaces(&[NamespaceFacts::default()]);
    assert!(text.contains("\ntfo_guard_rules 0\n") && !text.contains("tfo_guard_on{"));
}
