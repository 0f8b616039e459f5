//! The metrics of the farm, as text.

use crate::{
    farm::{Cause, FarmReport, Phase, Position, Verdict},
    metrics::{NamespaceFacts, health, render_namespaces},
};

#[test]
fn a_farm_is_told() {
    let edges = [
        ("198.51.100.7:443", Some(true)),
        ("[2001:db8::/32]:80", Some(false)),
        ("192.0.2.1:80", None),
    ];
    let edges = edges.map(|(service, taken)| {
        let verdict = Verdict {
            taken,
            takes: ["web-1".to_owned()].into(),
            refuses: [("web-2".to_owned(), Cause::OtherSecret)].into(),
            ..Verdict::default()
        };
        (service.parse().unwrap(), verdict)
    });
    let facts = NamespaceFacts {
        farm: Some(FarmReport {
            host: "web-1".to_owned(),
            prefix: "/tfo/".to_owned(),
            reachable: true,
            position: Some(Position {
                epoch: 7,
                phase: Phase::Stage,
            }),
            skew: Some(-1.5),
            leads: true,
            members: Some([5, 2]),
            failures: 3,
            ignored: 9,
            edges: edges.into(),
            ..FarmReport::default()
        }),
        ..NamespaceFacts::default()
    };
    let text = render_namespaces(std::slice::from_ref(&facts));
    for line in [
        r#"tfo_farm_info{host="web-1",prefix="/tfo/"} 1"#,
        "tfo_farm_epoch 7",
        r#"tfo_farm_phase{phase="stage"} 1"#,
        r#"tfo_farm_phase{phase="steady"} 0"#,
        "tfo_farm_etcd_reachable 1",
        "tfo_farm_acknowledged 0",
        "tfo_farm_leader 1",
        "tfo_farm_clock_skew_seconds -1.5",
        "tfo_farm_members 5",
        "tfo_farm_members_late 2",
        "tfo_farm_failures_total 3",
        "tfo_farm_ignored_values_total 9",
        "tfo_farm_error 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    for line in [
        "# TYPE tfo_guard_edge_taken gauge",
        r#"tfo_guard_edge_taken{vip="198.51.100.7/32",port="443"} 1"#,
        r#"tfo_guard_edge_taken{vip="2001:db8::/32",port="80"} 0"#,
        r#"tfo_guard_edge_hosts{vip="2001:db8::/32",port="80",verdict="takes"} 1"#,
        r#"tfo_guard_edge_hosts{vip="2001:db8::/32",port="80",verdict="other_secret"} 1"#,
        r#"tfo_guard_edge_hosts{vip="2001:db8::/32",port="80",verdict="no_rule"} 0"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert_eq!(text.matches("\ntfo_guard_edge_taken{").count(), 2);
    // Without a service, the family is there still.
    let text = render_namespaces(&[NamespaceFacts::default()]);
    assert!(
        text.contains("\n# TYPE tfo_guard_edge_taken gauge\n"),
        "{text}"
    );
    assert!(!text.contains("\ntfo_guard_edge_taken"), "{text}");
    assert_eq!(health(std::slice::from_ref(&facts)), Ok(()));
    let mut facts = facts;
    if let Some(farm) = &mut facts.farm {
        farm.error = Some("etcd is away".to_owned());
    }
    assert_eq!(health(&[facts]), Err("farm: etcd is away\n".to_owned()));
}
