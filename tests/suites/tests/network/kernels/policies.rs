//! Policies on the running kernel: rules, lists, limits, data at most once, cookies withheld.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use tfo_common::{
    policy::{Action, Class, Limit, once::OnceBy, withhold::SourceMemory},
    rate::Rate,
};
use tfo_testbed::{
    kernel::feature,
    keys,
    policy::{everywhere, rule},
    raw::{Answer, RawClient, RawSyn},
    socket::Method,
    testbed::Testbed,
    veth::{Family, Pair, server_port},
};
use tfo_userspace::model::{Lists, Policy, PortPolicy, Prefix};

/// `true` if a SYN with a valid cookie and 4 bytes of data gets this answer after `action`.
fn is_answer_after(action: Action, answer: &Answer) -> bool {
    match (action, answer) {
        (Action::Drop, Answer::Silence) => true,
        (Action::Pass, Answer::SynAck { acked, cookie }) => *acked == 4 && cookie.is_none(),
        (Action::Reissue, Answer::SynAck { acked, cookie }) => *acked == 0 && cookie.is_some(),
        (Action::Fallback, Answer::SynAck { acked, cookie }) => *acked == 0 && cookie.is_none(),
        _ => false,
    }
}

/// Valid cookies under rules, a list and a limit.
fn policies_in(mode: &str, family: Family) -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
    let listener = testbed.listen(family)?;
    let server = server_port(family, listener.port());
    let mut client = RawClient::new(&testbed.pair, family, 0)?;
    let key = keys::of_kernel(&testbed.pair.server)?[0];
    let cookie = keys::cookie(&key, client.address(), server.ip());
    let syn = RawSyn::fast_open(34, &cookie, b"data");
    let mut expect = |action| -> Result<()> {
        let answer = client.send_in(&testbed.pair, server, &syn)?;
        let told = is_answer_after(action, &answer);
        ensure!(told, "{mode}, {family}: {action:?}: {answer:?}");
        Ok(())
    };
    for action in Action::WITHOUT_MEMORY {
        testbed.set_policy(Some(everywhere(rule(Class::Valid, action))))?;
        expect(action)?;
    }
    let by_content = PortPolicy {
        once_by: OnceBy::Content,
        ..rule(Class::Valid, Action::Once)
    };
    testbed.set_policy(Some(everywhere(by_content)))?;
    expect(Action::Pass)?;
    expect(Action::Reissue)?;
    let (allow, deny) = (prefix(family.spare(0)), prefix(family.client()));
    let denied = PortPolicy {
        denied: Action::Fallback,
        ..rule(Class::Valid, Action::Drop)
    };
    for (lists, action) in [
        ([allow, deny], Action::Pass),
        ([deny, allow], Action::Fallback),
    ] {
        let [allow, deny] = lists.map(|prefix| vec![prefix]);
        testbed.set_policy(Some(Policy {
            lists: Lists { allow, deny },
            ..everywhere(denied)
        }))?;
        expect(action)?;
    }
    let one = Rate {
        per_second: 1,
        burst: 1,
    };
    for (source, port) in [(one, Rate::UNLIMITED), (Rate::UNLIMITED, one)] {
        let mut limited = PortPolicy::default();
        limited.limits[Class::Valid as usize] = Limit { source, port };
        testbed.set_policy(Some(everywhere(limited)))?;
        expect(Action::Pass)?;
        // On a slow machine, the limit may allow a SYN again a second later.
        let limited = (0..5).any(|_| expect(Action::Fallback).is_ok());
        ensure!(limited, "{mode}, {family}: more than one a second");
    }
    testbed.equal().map(drop)
}

/// The prefix of this address alone.
fn prefix(address: IpAddr) -> Prefix {
    let len = if address.is_ipv4() { 32 } else { 128 };
    Prefix { address, len }
}

#[test]
fn policies() -> Result<()> {
    policies_in("native", Family::V4)?;
    policies_in("tc", Family::V6)?;
    feature("policies", "rules, lists, limits, at most once: yes");
    Ok(())
}

/// A client that was given a cookie and opens connections without one is given no more.
#[test]
fn cookies_withheld() -> Result<()> {
    let family = Family::V6;
    let testbed = Testbed::attach(Pair::new()?, &[])?;
    let listener = testbed.listen(family)?;
    testbed.tfo.done(&["policy", "set", "--withhold", "1h"])?;
    testbed.request_cookie(&listener, family)?;
    for _ in 0..SourceMemory::PLAIN {
        testbed.exchange(&listener, family, Method::Plain)?;
    }
    testbed.pair.forget_cookies()?;
    testbed.exchange(&listener, family, Method::SendTo)?;
    let cookie = testbed.pair.cached_cookie(family)?;
    ensure!(cookie.is_none(), "a cookie: {cookie:02x?}");
    let stats = testbed.equal()?;
    ensure!(stats.counters["PolicyWithheld"] == 1, "{stats:?}");
    feature("cookies withheld", "yes");
    Ok(())
}
