//! Findings from observations.

use super::*;

const SERVER: &str = "192.0.2.1:443";

fn connected(taken: bool, client_fail: ClientFail) -> Connected {
    Connected {
        handshake_us: 1000,
        data_acked_us: Some(if taken { 1000 } else { 2100 }),
        syn_data_taken: taken,
        client_fail,
    }
}

const fn syn_ack(acked: u32, cookie: Option<usize>) -> Heard {
    Heard::SynAck {
        rtt_us: 1000,
        acked,
        cookie,
    }
}

fn hop(ttl: u8, option: Option<Quoted>) -> Hop {
    Hop {
        ttl,
        router: Some([10, 0, 0, ttl].into()),
        option,
        server: false,
    }
}

/// Three connections of which the latter two had a cookie, and three requests.
fn probe() -> Probe {
    Probe {
        server: SERVER.parse().unwrap(),
        from: [192, 0, 2, 9].into(),
        tcp_fastopen: 3,
        plain: vec![connected(false, ClientFail::None); 2],
        fast_open: vec![
            connected(false, ClientFail::NoCookie),
            connected(true, ClientFail::None),
            connected(true, ClientFail::None),
        ],
        syns: Some(Syns {
            sent: 5,
            plain: syn_ack(0, None),
            requests: vec![syn_ack(0, Some(1)); 3],
            experimental: syn_ack(0, Some(1)),
            presented: None,
            cookie_alone: None,
            data_alone: None,
            hops: Vec::new(),
            plain_hops: Vec::new(),
        }),
        not_seen: None,
    }
}

/// The probe with its connections ending in `client_fail`, and its SYNs changed.
fn failing(client_fail: ClientFail, change: impl FnOnce(&mut Syns)) -> Probe {
    let mut probe = probe();
    probe.fast_open[1..].fill(connected(false, client_fail));
    change(probe.syns.as_mut().unwrap());
    probe
}

/// The one problem of a check.
fn expect(probe: &Probe, check: &str, parts: &[&str]) {
    let findings = judge(probe);
    let found = findings.iter().find(|each| each.check == check).unwrap();
    assert_eq!(found.verdict, ProbeVerdict::Problem, "{findings:#?}");
    assert!(found.remedy.is_some());
    for part in parts {
        assert!(found.found.contains(part), "no {part:?}: {findings:#?}");
    }
}

#[test]
fn where_it_works_nothing_is_a_problem() {
    let findings = judge(&probe());
    assert!(
        findings.iter().all(|each| each.verdict == ProbeVerdict::Ok),
        "{findings:#?}"
    );
    let all: String = findings.iter().map(|each| each.found.as_str()).collect();
    for part in [
        "kinds 34 and 254",
        "2 of 2",
        "one key",
        "1.00 ms",
        "2.10 ms",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
}

#[test]
fn without_privileges_it_says_what_it_did_not_see() {
    let mut probe = probe();
    probe.syns = None;
    probe.not_seen = Some("CAP_NET_RAW".to_owned());
    let findings = judge(&probe);
    let unseen = findings.last().unwrap();
    assert_eq!(unseen.verdict, ProbeVerdict::Unknown);
    assert_eq!(findings.first().unwrap().verdict, ProbeVerdict::Ok);
    probe.fast_open.fill(connected(false, ClientFail::NoCookie));
    expect(&probe, COOKIE, &["no cookie came"]);
    probe
        .fast_open
        .fill(connected(false, ClientFail::DataNotAcked));
    expect(&probe, DATA, &["3 of 3"]);
}

#[test]
fn what_keeps_this_host_from_it_is_named() {
    let mut off = probe();
    off.tcp_fastopen = 2;
    off.fast_open.clear();
    expect(&off, HOST, &["= 2, without bit 0x1"]);
    let mut black = probe();
    black.fast_open.fill(connected(false, ClientFail::None));
    expect(&black, HOST, &["3 of 3", "TCPFastOpenBlackhole"]);
}

#[test]
fn a_stripped_option_has_its_place() {
    use Quoted::{Intact, Missing, TooShort};
    let stripped = |hops: Vec<Hop>| {
        failing(ClientFail::NoCookie, |syns| {
            syns.requests.fill(syn_ack(0, None));
            syns.experimental = syn_ack(0, None);
            syns.hops = hops;
        })
    };
    let silent = Hop {
        router: None,
        ..hop(3, None)
    };
    let hops = vec![
        hop(1, Some(Intact)),
        hop(2, Some(Intact)),
        silent,
        hop(4, Some(Missing)),
        hop(5, Some(Missing)),
    ];
    let place = "stripped between hop 2 (10.0.0.2) and hop 4 (10.0.0.4)";
    expect(&stripped(hops), COOKIE, &[place]);
    let first = stripped(vec![hop(1, Some(Missing))]);
    expect(&first, COOKIE, &["stripped before hop 1 (10.0.0.1)"]);
    let intact = stripped(vec![hop(1, Some(Intact)), hop(2, Some(TooShort))]);
    expect(
        &intact,
        COOKIE,
        &["off at the server", "intact at hop 1 (10.0.0.1)"],
    );
    expect(&stripped(Vec::new()), COOKIE, &["no hop shows"]);
    // Linux has another form to fall back to.
    let mut other = stripped(vec![hop(1, Some(Missing))]);
    other.fast_open.push(connected(true, ClientFail::None));
    other.syns.as_mut().unwrap().experimental = syn_ack(0, Some(1));
    let findings = judge(&other);
    assert_eq!(findings[0].verdict, ProbeVerdict::Note, "{findings:#?}");
    assert!(findings[0].found.contains("before hop 1"), "{findings:#?}");
}

#[test]
fn dropped_syns_have_their_kind_and_their_place() {
    let dropped = |cookie_alone, data_alone| {
        failing(ClientFail::SynRetransmitted, |syns| {
            syns.presented = Some(Heard::Silence);
            syns.cookie_alone = Some(cookie_alone);
            syns.data_alone = Some(data_alone);
            syns.hops = vec![hop(1, Some(Quoted::Intact))];
            syns.plain_hops = vec![
                hop(1, None),
                Hop {
                    server: true,
                    router: None,
                    ..hop(2, None)
                },
            ];
        })
    };
    let answered = syn_ack(0, None);
    let place = "dropped between hop 1 (10.0.0.1) and the server";
    let data = dropped(answered, Heard::Silence);
    expect(&data, DATA, &["2 of 2", "SYNs with data are", place]);
    let option = dropped(Heard::Silence, answered);
    expect(&option, DATA, &["SYNs with a cookie are", place]);
    expect(
        &dropped(answered, answered),
        DATA,
        &["both a cookie and data"],
    );
    let lost = failing(ClientFail::SynRetransmitted, |syns| {
        syns.presented = Some(syn_ack(2, None));
    });
    expect(&lost, DATA, &["may have been lost"]);
    let requests = failing(ClientFail::NoCookie, |syns| {
        syns.requests = vec![Heard::Silence];
        syns.plain_hops = vec![hop(1, None), hop(2, None)];
    });
    expect(
        &requests,
        COOKIE,
        &["option are dropped before hop 1 (10.0.0.1)"],
    );
}

#[test]
fn refused_data_has_a_cause() {
    let refused = |change: fn(&mut Syns)| failing(ClientFail::DataNotAcked, change);
    let changed = refused(|syns| {
        syns.presented = Some(syn_ack(0, Some(1)));
        syns.hops = vec![hop(1, Some(Quoted::Intact)), hop(2, Some(Quoted::Changed))];
    });
    let place = "changed between hop 1 (10.0.0.1) and hop 2 (10.0.0.2)";
    expect(&changed, DATA, &["same cookie again", place]);
    let full = refused(|syns| syns.presented = Some(syn_ack(0, None)));
    expect(&full, DATA, &["queue is full"]);
    let now = refused(|syns| syns.presented = Some(syn_ack(2, None)));
    expect(&now, DATA, &["had its data taken"]);
}

#[test]
fn several_keys_are_counted() {
    let several = failing(ClientFail::DataNotAcked, |syns| {
        syns.requests = [1, 2, 1].map(|number| syn_ack(0, Some(number))).into();
        syns.presented = Some(syn_ack(0, Some(3)));
    });
    expect(&several, KEYS, &["4 answers", "3 keys", "3 addresses"]);
    expect(&several, DATA, &["another cookie"]);
    let some = failing(ClientFail::NoCookie, |syns| {
        syns.requests[1] = syn_ack(0, None);
    });
    expect(&some, COOKIE, &["2 of 3 requests"]);
}
