use super::{HandshakeOption::*, *};

/// A change of a host's guard, and why it takes no answers then.
type Case = (fn(&mut GuardRecord), Option<Cause>);

const NAME: &str = "edge-1";

fn service(text: &str) -> EdgeService {
    text.parse().unwrap()
}

fn host(addresses: &[&str], takes: &[u16]) -> GuardRecord {
    GuardRecord {
        takes: takes.iter().copied().collect(),
        secret: Some("5a5a5a5a".to_owned()),
        window_scale: 7,
        options: [WindowScaling, Timestamps, Sack, Ecn].into(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        ..GuardRecord::default()
    }
}

fn edge(services: &[(&str, Option<u8>)]) -> GuardRecord {
    let edges = services.iter().map(|(name, scale)| (service(name), *scale));
    GuardRecord {
        edges: edges.collect(),
        ..host(&["198.51.100.1"], &[])
    }
}

/// A host of the service below that takes its answers, changed.
fn taker(change: impl FnOnce(&mut GuardRecord)) -> GuardRecord {
    let mut host = host(&["198.51.100.7", "10.0.0.21"], &[443]);
    change(&mut host);
    host
}

/// The verdict for 198.51.100.7:443 by hosts `a`, `b` and so on.
fn judged(stated: Option<u8>, hosts: &[GuardRecord]) -> Verdict {
    let hosts = ('a'..).map(String::from).zip(hosts.iter().cloned());
    let mut verdicts = judge(
        NAME,
        &edge(&[("198.51.100.7:443", stated)]),
        &hosts.collect(),
    );
    verdicts.remove(&service("198.51.100.7:443")).unwrap()
}

#[test]
fn a_host_takes_answers_or_it_is_said_why_not() {
    use Cause::*;
    let as_is = |_: &mut GuardRecord| {};
    let cases: [Case; 11] = [
        (as_is, None),
        (|it| it.takes = [0].into(), None),
        (|it| it.takes = [0, 80].into(), None),
        (|it| it.takes = [80].into(), Some(NoRule)),
        (|it| it.takes.clear(), Some(NoRule)),
        // A host that was cleared.
        (
            |it| {
                *it = GuardRecord {
                    addresses: it.addresses.clone(),
                    ..GuardRecord::default()
                }
            },
            Some(NoRule),
        ),
        (
            |it| it.secret = Some("00000000".to_owned()),
            Some(OtherSecret),
        ),
        (|it| it.secret = None, Some(OtherSecret)),
        (
            |it| it.options = [WindowScaling, Ecn].into(),
            Some(Options([Timestamps, Sack].into())),
        ),
        (|it| it.window_scale = 9, Some(WindowScale(9))),
        (
            |it| it.addresses = ["198.51.100.0/24".parse().unwrap()].into(),
            None,
        ),
    ];
    for (number, (change, cause)) in cases.into_iter().enumerate() {
        let verdict = judged(Some(7), &[taker(change)]);
        assert_eq!(
            verdict.taken,
            Some(cause.is_none()),
            "{number}: {verdict:?}"
        );
        assert_eq!(verdict.refuses.get("a"), cause.as_ref(), "{number}");
        assert_eq!(verdict.takes.contains("a"), cause.is_none(), "{number}");
    }
}

#[test]
fn only_hosts_with_an_address_of_the_service_count() {
    for (addresses, counts) in [
        (&["198.51.100.7"][..], true),
        (&["10.0.0.1", "198.51.100.7"], true),
        (&["198.51.0.0/16"], true),
        (&["198.51.100.8"], false),
        (&["2001:db8::7"], false),
        (&[], false),
    ] {
        let verdict = judged(None, &[host(addresses, &[])]);
        assert_eq!(verdict.taken, counts.then_some(false), "{addresses:?}");
    }
    assert_eq!(judged(None, &[]).taken, None);
    // Another edge, and the edge itself, with addresses in the network of the service.
    let edges = edge(&[("198.51.100.0/24:443", None)]);
    let hosts = [(NAME, &edges), ("edge-2", &edges)];
    let hosts = hosts.map(|(name, record)| (name.to_owned(), record.clone()));
    let verdicts = judge(NAME, &edges, &hosts.into());
    assert_eq!(verdicts[&service("198.51.100.0/24:443")].taken, None);
}

#[test]
fn one_host_that_takes_them_is_enough() {
    let verdict = judged(None, &[taker(|_| {}), taker(|it| it.takes.clear())]);
    assert_eq!(verdict.taken, Some(true));
    assert_eq!(verdict.takes, ["a".to_owned()].into());
    assert_eq!(
        verdict.refusals(),
        "b has no rule for the port with a shared secret"
    );
}

#[test]
fn the_longest_prefix_decides() {
    let edge = edge(&[
        ("198.51.100.0/24:443", None),
        ("198.51.100.7:443", None),
        ("198.51.100.8:80", None),
    ]);
    let hosts = [
        ("a", host(&["198.51.100.7"], &[443])),
        ("b", host(&["198.51.100.8"], &[])),
    ];
    let hosts = hosts.map(|(name, record)| (name.to_owned(), record)).into();
    let verdicts = judge(NAME, &edge, &hosts);
    for (name, taken) in [
        ("198.51.100.7:443", Some(true)),
        ("198.51.100.0/24:443", Some(false)),
        ("198.51.100.8:80", Some(false)),
    ] {
        assert_eq!(verdicts[&service(name)].taken, taken, "{name}");
    }
}

/// What is stated is judged, whether it is all that the edge has or not.
#[test]
fn hosts_are_judged_by_what_is_stated() {
    let mut edge = edge(&[("198.51.100.7:443", Some(9))]);
    let hosts = [
        ("a", taker(|it| it.window_scale = 9)),
        ("b", taker(|it| it.options = [Timestamps, Ecn].into())),
    ];
    let hosts = hosts.map(|(name, record)| (name.to_owned(), record)).into();
    let judged = |edge: &GuardRecord| {
        let mut verdicts = judge(NAME, edge, &hosts);
        verdicts.remove(&service("198.51.100.7:443")).unwrap()
    };
    let verdict = judged(&edge);
    assert_eq!(verdict.takes, ["a".to_owned()].into());
    assert_eq!(verdict.window_scale, Some(9));
    assert_eq!(
        verdict.refuses["b"],
        Cause::Options([WindowScaling, Sack].into())
    );
    edge.set_states(&[(service("198.51.100.7:443"), [Timestamps].into())].into());
    let verdict = judged(&edge);
    assert_eq!((verdict.takes.len(), verdict.window_scale), (2, None));
}
