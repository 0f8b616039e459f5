//! The guard's limits by source, and its order with the policy.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tfo_common::{
    counters::Counter::*,
    policy::{Action, Class},
};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, flag, linux_options},
    policy::{everywhere, rule},
    poll::eventually,
    socket::{Listener, Method},
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, server_port},
    xdp::Mode,
};

use super::testbed::{GuardTestbed, grown, in_each_mode};

/// Sends these SYNs. Returns the lengths in bytes of the SYN-ACKs that answer them.
fn answers(pair: &Pair, syns: &[Segment]) -> Result<Vec<usize>> {
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
    let mut lengths = Vec::new();
    let mut take = || -> Result<()> {
        while let Some(frame) = link.receive(Duration::ZERO)? {
            if is_syn_ack(&frame) {
                lengths.push(frame.len());
            }
        }
        Ok(())
    };
    for syn in syns {
        link.send(&syn.frame())?;
        take()?;
    }
    pair.barrier()?;
    take()?;
    Ok(lengths)
}

fn is_syn_ack(frame: &[u8]) -> bool {
    let tcp = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        _ => 54,
    };
    let both = flag::SYN | flag::ACK;
    frame
        .get(tcp + 13)
        .is_some_and(|flags| flags & both == both)
}

fn syn(source: IpAddr, port: u16, family: Family, to: u16) -> Segment {
    let source = SocketAddr::new(source, port);
    Segment::syn(source, server_port(family, to)).options(&linux_options(&[]))
}

/// A source gets challenges within its rate, no longer than its SYNs. The kernel answers the others.
fn one_source_gets_no_more_challenges_than_its_rate(mode: Mode) -> Result<()> {
    const SYNS: u16 = 500;
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        let pair = &testbed.base.pair;
        let listener = testbed.base.listen(family)?;
        let port = listener.port();
        testbed.guard(port, "on", &["--replies", "10/s burst 20"])?;
        let before = testbed.counters()?;
        // All addresses of an IPv6 prefix are one source.
        let victim = |n: u16| match family {
            Family::V4 => family.spare(0),
            Family::V6 => family.spare((n % 200) as u8),
        };
        let syns: Vec<_> = (0..SYNS)
            .map(|n| syn(victim(n), 20_000 + n, family, port))
            .collect();
        let start = Instant::now();
        let lengths = answers(pair, &syns)?;
        let most = 20 + 10 * start.elapsed().as_secs() + 10;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        ensure!(longest <= syns[0].frame().len(), "{longest} bytes");
        let grown = grown(&before, &testbed.counters()?);
        let [(GuardChallenged, came), (GuardCapped, capped)] = grown[..] else {
            bail!("{grown:?}");
        };
        ensure!((20..=most).contains(&came), "{family}: {came} challenges");
        ensure!(came + capped == u64::from(SYNS), "{came}: {capped}");
        // The SYN queue takes some, and SYN cookies are for the rest.
        let answered = lengths.len() as u64;
        ensure!(answered == u64::from(SYNS), "{answered} answers");
        // Another source has a budget of its own.
        if family == Family::V4 {
            let other = syn(family.spare(1), 20_000, family, port);
            let came = answers(pair, &[other])?;
            ensure!(came.len() == 1, "another source: {came:?}");
        }
    }
    Ok(())
}

fn nobody_answers_where_nobody_can_be(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let pair = &testbed.base.pair;
    for (family, sources) in [
        (
            Family::V4,
            [
                "0.0.0.0",
                "127.0.0.1",
                "224.0.0.1",
                "239.255.255.250",
                "255.255.255.255",
                "10.77.0.1",
            ],
        ),
        (
            Family::V6,
            [
                "::",
                "::1",
                "ff02::1",
                "ff0e::1",
                "::ffff:10.77.0.2",
                "ff05::2",
            ],
        ),
    ] {
        let listener = testbed.base.listen(family)?;
        let port = listener.port();
        testbed.guard(port, "on", &[])?;
        let before = testbed.counters()?;
        let syns = sources.map(|source| syn(source.parse().unwrap(), 20_000, family, port));
        let came = answers(pair, &syns)?;
        let after = testbed.counters()?;
        let elsewhere = after.get(Elsewhere) - before.get(Elsewhere);
        let grown = grown(&before, &after);
        ensure!(
            came.is_empty() && grown.is_empty() && elsewhere == syns.len() as u64,
            "{family}: {came:?}, {grown:?}, {elsewhere}"
        );
        // A neighbour on the same network is not a martian.
        let neighbour = syn(family.spare(0), 20_000, family, port);
        pair.set_neighbour(family.spare(0), NOBODYS_MAC)?;
        let came = answers(pair, &[neighbour])?;
        ensure!(came.len() == 1, "{family}: {came:?}");
    }
    Ok(())
}

/// A listener for which the client has a valid cookie.
fn with_cookie(testbed: &GuardTestbed, family: Family) -> Result<Listener> {
    let listener = testbed.base.listen(family)?;
    testbed.base.request_cookie(&listener, family)?;
    Ok(listener)
}

fn cookies_beyond_their_rate_are_challenged(mode: Mode) -> Result<()> {
    const CONNECTIONS: u64 = 10;
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        let listener = with_cookie(&testbed, family)?;
        testbed.guard(listener.port(), "on", &["--proven", "1/s burst 3"])?;
        let before = testbed.counters()?;
        let start = Instant::now();
        let mut in_syn = 0;
        for _ in 0..CONNECTIONS {
            let exchange = testbed.base.exchange(&listener, family, Method::SendTo)?;
            in_syn += u64::from(exchange.in_syn);
        }
        let most = 3 + start.elapsed().as_secs() + 1;
        ensure!((3..=most).contains(&in_syn), "{family}: {in_syn}");
        let grown = grown(&before, &testbed.counters()?);
        let challenged = CONNECTIONS - in_syn;
        let expected = [
            (GuardProven, in_syn),
            (GuardChallenged, challenged),
            (GuardAccepted, challenged),
        ];
        ensure!(grown == expected, "{family}: {grown:?}");
        let stats = testbed.base.equal().with_context(|| format!("{family}"))?;
        let for_it = stats.counters["ReasonGuard"];
        ensure!(for_it.cast_unsigned() == challenged, "{stats:?}");
    }
    Ok(())
}

/// The event of a SYN has the guard's action and the policy's, whichever program wrote it.
fn an_event_has_both_actions(mode: Mode) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(20);
    let testbed = GuardTestbed::new(mode)?;
    let listener = with_cookie(&testbed, Family::V4)?;
    testbed.guard(listener.port(), "on", &[])?;
    for (policy, action) in [
        (None, Value::Null),
        (Some(Action::Fallback), json!("fallback")),
    ] {
        let policy = policy.map(|action| everywhere(rule(Class::Valid, action)));
        testbed.base.set_policy(policy)?;
        let arguments = ["events", "--json", "--count", "1"];
        let mut reader = testbed.base.tfo.start(&arguments)?;
        eventually("the reader has its event", LIMIT, || {
            testbed
                .base
                .exchange(&listener, Family::V4, Method::SendTo)?;
            Ok(!reader.is_running()?)
        })?;
        let output = reader.wait(LIMIT)?;
        let lines = output.stdout.lines().map(serde_json::from_str);
        let events: Vec<Value> = lines.collect::<Result<_, _>>()?;
        let event = events.iter().find(|event| event["event"] == "syn");
        let event = event.with_context(|| format!("{output:?}"))?;
        ensure!(
            event["outcome"] == "primary cookie"
                && event["guard"] == "proven"
                && event["action"] == action,
            "{event}"
        );
    }
    Ok(())
}

/// The policy applies to SYNs with a proof, not to SYNs that are challenged.
fn a_policy_acts_behind_it(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        let listener = with_cookie(&testbed, family)?;
        testbed.guard(listener.port(), "on", &[])?;
        let policy = everywhere(rule(Class::Valid, Action::Fallback));
        testbed.base.set_policy(Some(policy))?;
        let before = testbed.counters()?;
        testbed
            .base
            .after_handshake(&listener, family, Method::SendTo)?;
        testbed.base.pair.barrier()?;
        let after = testbed.counters()?;
        let grown = grown(&before, &after);
        let fallbacks = after.get(PolicyFallback) - before.get(PolicyFallback);
        ensure!(
            grown == [(GuardProven, 1)] && fallbacks == 1,
            "{family}: {fallbacks}, {grown:?}"
        );
        testbed.base.pair.forget_cookies()?;
        testbed.base.request_cookie(&listener, family)?;
        let asked = testbed.counters()?;
        ensure!(
            asked.get(GuardCookies) == after.get(GuardCookies) + 1
                && asked.get(PolicyFallback) == after.get(PolicyFallback),
            "{family}: {asked:?}"
        );
        testbed.base.set_policy(None)?;
        testbed.base.in_syn(&listener, family, Method::SendTo)?;
    }
    Ok(())
}

in_each_mode! {
    one_source_gets_no_more_challenges_than_its_rate;
    nobody_answers_where_nobody_can_be;
    cookies_beyond_their_rate_are_challenged;
    an_event_has_both_actions;
    a_policy_acts_behind_it;
}
