//! The test environment itself, without `tfo`: the kernel's own behaviour.

use std::{path::Path, thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_common::fastopen::Cookie;
use tfo_testbed::{
    kernel::TcpExt,
    keys,
    netns::Netns,
    poll::eventually,
    process::ensure_says,
    raw::{Answer, RawClient, RawSyn},
    socket::{Connection, LIMIT, Listener, Method},
    testbed::{Tally, exchange, request_cookie},
    veth::{Family, Pair, server_port},
};

fn tally(pair: &Pair) -> Result<Tally> {
    let kernel = TcpExt::read(&pair.server)?;
    Ok(Tally::of(|name| kernel.get(name).cast_signed()))
}

fn listen(pair: &Pair, family: Family) -> Result<Listener> {
    pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    Listener::fast_open(&pair.server, server_port(family, 0))
}

#[test]
fn a_namespace_goes_with_its_value() -> Result<()> {
    let netns = Netns::new("gone")?;
    let path = netns.path();
    ensure!(path.exists());
    let panicked = std::panic::catch_unwind(move || {
        assert_eq!(netns.name(), "", "a test that fails");
    });
    ensure!(panicked.is_err());
    ensure!(!path.exists());
    Ok(())
}

#[test]
fn sysctls_are_the_namespaces_own() -> Result<()> {
    let (one, other) = (Netns::new("one")?, Netns::new("other")?);
    one.set_sysctl("net.ipv4.tcp_fastopen", "519")?;
    ensure!(one.sysctl("net.ipv4.tcp_fastopen")? == "519");
    ensure!(other.sysctl("net.ipv4.tcp_fastopen")? == "1");
    ensure_says(
        &other.read(Path::new("/proc/thread-self/net/dev"))?,
        &["lo:"],
    )?;
    Ok(())
}

#[test]
fn the_second_connection_has_data_in_its_syn() -> Result<()> {
    for family in Family::BOTH {
        for method in [Method::SendTo, Method::ConnectOption] {
            let pair = Pair::new()?;
            let listener = listen(&pair, family)?;
            let in_syn =
                |method| -> Result<bool> { Ok(exchange(&pair, &listener, family, method)?.in_syn) };
            ensure!(!in_syn(method)?, "first connection, by {method:?}");
            keys::ensure_cached(&pair, family, &keys::parse(keys::COUNTING)?[0])?;
            ensure!(in_syn(method)?, "second connection, by {method:?}");
            ensure!(!in_syn(Method::Plain)?, "plain connection");
            pair.forget_cookies()?;
            let cookie = pair.cached_cookie(family)?;
            ensure!(cookie.is_none(), "{cookie:02x?}");
            ensure!(!in_syn(method)?, "without a cookie, by {method:?}");
            let expected = Tally {
                requests: 2,
                passive: 1,
                ..Tally::default()
            };
            ensure!(tally(&pair)? == expected, "{}", tally(&pair)?);
        }
    }
    Ok(())
}

#[test]
fn held_replies_leave_the_handshake_open() -> Result<()> {
    for family in Family::BOTH {
        let pair = Pair::new()?;
        let listener = listen(&pair, family)?;
        request_cookie(&pair, &listener, family)?;
        let held = pair.hold_replies(family)?;
        let server = server_port(family, listener.port());
        let client = Connection::open_without_waiting(&pair.client, server, b"early")?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == b"early");
        let info = accepted.info()?;
        ensure!(
            info.handshake_open && info.syn_data_taken,
            "{family}: {info:?}"
        );
        drop(held);
        accepted.send(b"late")?;
        ensure!(client.receive()? == b"late");
        let ends = [accepted.info()?, client.info()?];
        ensure!(
            !ends[0].handshake_open && ends[1].syn_data_taken,
            "{family}: {ends:?}"
        );
    }
    Ok(())
}

/// A retransmitted SYN or SYN-ACK has no Fast Open option: a request may bring no cookie, which tests must check.
#[test]
fn a_request_that_is_sent_again_brings_no_cookie() -> Result<()> {
    for family in Family::BOTH {
        let pair = Pair::new()?;
        let listener = listen(&pair, family)?;
        let held = pair.hold_replies(family)?;
        let exchange = thread::scope(|scope| {
            let client = scope.spawn(|| exchange(&pair, &listener, family, Method::SendTo));
            let sent_again = || Ok(TcpExt::read(&pair.client)?.get("TCPSynRetrans") > 0);
            let waited = eventually("the SYN is sent again", LIMIT, sent_again);
            drop(held);
            let exchange = client.join().expect("no panic");
            waited.and(exchange)
        })?;
        ensure!(!exchange.in_syn, "{family}: {exchange:?}");
        let cookie = pair.cached_cookie(family)?;
        ensure!(cookie.is_none(), "{family}: {cookie:02x?}");
        request_cookie(&pair, &listener, family)?;
    }
    Ok(())
}

#[test]
fn a_crafted_syn_is_answered_by_its_cookie() -> Result<()> {
    for family in Family::BOTH {
        let pair = Pair::new()?;
        let listener = listen(&pair, family)?;
        let server = server_port(family, listener.port());
        let mut client = RawClient::new(&pair, family, 0)?;
        for kind in [34, 254] {
            let request = RawSyn::fast_open(kind, &[], b"data");
            let Answer::SynAck {
                acked: 0,
                cookie: Some((answered, cookie)),
            } = client.send(server, &request)?
            else {
                anyhow::bail!("no cookie for {request:?}");
            };
            ensure!(
                answered == kind && cookie.len() == Cookie::LEN,
                "{answered}, {cookie:02x?}"
            );
            let taken = client.send(server, &RawSyn::fast_open(kind, &cookie, b"data"))?;
            ensure!(
                taken
                    == Answer::SynAck {
                        acked: 4,
                        cookie: None
                    },
                "{taken:?}"
            );
            ensure!(listener.accept()?.receive()? == b"data");
            let refused = client.send(server, &RawSyn::fast_open(kind, &[7; 8], b"data"))?;
            ensure!(
                refused
                    == Answer::SynAck {
                        acked: 0,
                        cookie: Some((kind, cookie))
                    },
                "{refused:?}"
            );
        }
        let plain = client.send(server, &RawSyn::plain(b""))?;
        ensure!(
            plain
                == Answer::SynAck {
                    acked: 0,
                    cookie: None
                },
            "{plain:?}"
        );
        let closed = client.send(server_port(family, 1), &RawSyn::plain(b""))?;
        ensure!(closed == Answer::Reset, "{closed:?}");
        let expected = Tally {
            requests: 2,
            passive: 2,
            failed: 2,
            ..Tally::default()
        };
        ensure!(tally(&pair)? == expected, "{}", tally(&pair)?);
    }
    Ok(())
}

#[test]
fn a_delayed_wire_shows_the_round_trip_saved() -> Result<()> {
    const ONE_WAY: Duration = Duration::from_millis(20);
    let pair = Pair::delayed(ONE_WAY)?;
    for family in Family::BOTH {
        let listener = listen(&pair, family)?;
        let plain = exchange(&pair, &listener, family, Method::Plain)?;
        let request = exchange(&pair, &listener, family, Method::SendTo)?;
        pair.ensure_cookie(family)?;
        let fast = exchange(&pair, &listener, family, Method::SendTo)?;
        // A busy machine may take longer, never less.
        for (exchange, saved) in [(plain, false), (request, false), (fast, true)] {
            let trips = if saved { 2 } else { 4 };
            let saves = exchange.in_syn == saved && exchange.before_handshake == saved;
            ensure!(
                saves && exchange.took >= ONE_WAY * trips,
                "{family}: {exchange:?}, saved: {saved}"
            );
        }
    }
    let passive = TcpExt::read(&pair.server)?.get("TCPFastOpenPassive");
    ensure!(passive == 2, "{passive}");
    Ok(())
}
