use super::{HandshakeOption::*, *};
use crate::farm::judge;

const NAME: &str = "edge-1";

fn host(change: impl FnOnce(&mut GuardRecord)) -> GuardRecord {
    let mut host = GuardRecord {
        takes: [443].into(),
        secret: Some("5a5a5a5a".to_owned()),
        window_scale: 7,
        receive_buffer: 131_072,
        mtu: 1500,
        options: [WindowScaling, Timestamps, Sack, Ecn].into(),
        addresses: ["198.51.100.7", "2001:db8::7"]
            .map(|it| it.parse().unwrap())
            .into(),
        ..GuardRecord::default()
    };
    change(&mut host);
    host
}

fn edge(service: &str, stated: Option<u8>) -> GuardRecord {
    GuardRecord {
        edges: [(service.parse().unwrap(), stated)].into(),
        ..host(|it| (it.takes, it.addresses) = Default::default())
    }
}

/// The terms of the only service of `edge`, and how many hosts take the answers to challenges that state them.
fn met(edge: &GuardRecord, hosts: &[GuardRecord]) -> Option<(Terms, usize)> {
    let hosts = ('a'..).map(String::from).zip(hosts.iter().cloned());
    let hosts = hosts.collect();
    let (service, terms) = meet(NAME, edge, &hosts).pop_first()?;
    let mut edge = edge.clone();
    edge.edges.insert(service, terms.window_scale);
    edge.set_states(&[(service, terms.options.clone())].into());
    let takes = judge(NAME, &edge, &hosts)[&service].takes.len();
    Some((terms, takes))
}

#[test]
fn a_window_scale_is_that_of_all_hosts_or_none() {
    let scaled = |scale| host(move |it| it.window_scale = scale);
    let unable = host(|it| {
        it.window_scale = 4;
        it.takes.clear();
    });
    // The rule's, the hosts', what is stated, how many take it.
    for (stated, scales, window_scale, takes) in [
        (None, &[7, 7][..], Some(7), 2),
        (None, &[9, 9], Some(9), 2),
        (None, &[7, 9], None, 2),
        (None, &[8, 9], None, 2),
        (Some(9), &[7, 9], Some(9), 1),
        (Some(9), &[7, 7], Some(9), 0),
    ] {
        let mut hosts: Vec<_> = scales.iter().map(|scale| scaled(*scale)).collect();
        hosts.push(unable.clone());
        let (terms, taken) = met(&edge("198.51.100.7:443", stated), &hosts).unwrap();
        let found = (terms.window_scale, taken);
        assert_eq!(found, (window_scale, takes), "{stated:?} {scales:?}");
        let scaling = terms.options.contains(&WindowScaling);
        assert_eq!(scaling, window_scale.is_some());
    }
    assert_eq!(met(&edge("198.51.100.7:443", None), &[unable]), None);
    // An edge that scales no window states none.
    let mut unscaled = edge("198.51.100.7:443", None);
    unscaled.options.remove(&WindowScaling);
    let (terms, takes) = met(&unscaled, &[scaled(8), scaled(8)]).unwrap();
    assert!(takes == 2 && !terms.options.contains(&WindowScaling));
}

#[test]
fn the_least_of_all_hosts_is_stated() {
    let hosts = [
        host(|it| (it.mtu, it.receive_buffer) = (9000, 65_536)),
        host(|it| (it.mtu, it.receive_buffer) = (1480, 87_380)),
        host(|it| it.options = [WindowScaling, Timestamps, Ecn].into()),
        host(|it| it.options = [WindowScaling, Timestamps, Sack].into()),
        // Of a version that does not tell.
        host(|it| (it.mtu, it.receive_buffer) = (0, 0)),
        // Takes nothing.
        host(|it| {
            (it.mtu, it.receive_buffer, it.secret) = (1280, 4096, None);
            it.options.clear();
        }),
    ];
    for (service, mss) in [("198.51.100.7:443", 1440), ("[2001:db8::7]:443", 1420)] {
        let (terms, takes) = met(&edge(service, None), &hosts).unwrap();
        assert_eq!(takes, 5);
        assert_eq!((terms.mss, terms.receive_buffer), (Some(mss), Some(65_536)));
        assert_eq!(terms.options, [WindowScaling, Timestamps].into());
    }
    // The edge has the least.
    let hosts = [host(|it| it.receive_buffer = 1 << 20)];
    let (terms, _) = met(&edge("198.51.100.7:443", None), &hosts).unwrap();
    assert_eq!((terms.mss, terms.receive_buffer), (Some(1460), None));
    let hosts = [host(|it| it.mtu = 0)];
    assert_eq!(
        met(&edge("198.51.100.7:443", None), &hosts).unwrap().0.mss,
        None
    );
}

#[test]
fn an_mss_is_not_less_than_the_kernels_least() {
    let of = |mtu, service: &str| mss(mtu, &service.parse().unwrap());
    for (mtu, v4, v6) in [
        (68, 536, 1220),
        (1500, 1460, 1440),
        (65_536, 65_495, 65_475),
    ] {
        assert_eq!(of(mtu, "198.51.100.7:443"), v4);
        assert_eq!(of(mtu, "[2001:db8::7]:443"), v6);
    }
}
