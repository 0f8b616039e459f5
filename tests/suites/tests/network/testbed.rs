//! The testbed itself, with no accelerator in it: what the kernel does when nobody else is there.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use tfo_common::fastopen::Cookie;
use tfo_testbed::{
    kernel::TcpExt,
    keys,
    netns::Netns,
    raw::{Answer, RawClient, RawSyn},
    socket::{Connection, Listener, Method},
    testbed::{Tally, exchange},
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
    ensure!(panicked.is_err() && !path.exists());
    Ok(())
}

#[test]
fn sysctls_are_the_namespaces_own() -> Result<()> {
    let (one, other) = (Netns::new("one")?, Netns::new("other")?);
    one.set_sysctl("net.ipv4.tcp_fastopen", "519")?;
    ensure!(one.sysctl("net.ipv4.tcp_fastopen")? == "519");
    ensure!(other.sysctl("net.ipv4.tcp_fastopen")? == "1");
    ensure!(
        other
            .read(Path::new("/proc/thread-self/net/dev"))?
            .contains("lo:")
    );
    Ok(())
}

#[test]
fn the_second_connection_has_data_in_its_syn() -> Result<()> {
    for family in Family::BOTH {
        for method in [Method::SendTo, Method::ConnectOption] {
            let pair = Pair::new()?;
            let listener = listen(&pair, family)?;
            ensure!(!exchange(&pair, &listener, family, method)?.in_syn);
            keys::ensure_cached(&pair, family, &keys::parse(keys::COUNTING)?[0])?;
            ensure!(exchange(&pair, &listener, family, method)?.in_syn);
            ensure!(!exchange(&pair, &listener, family, Method::Plain)?.in_syn);
            pair.forget_cookies()?;
            ensure!(pair.cached_cookie(family)?.is_none());
            ensure!(!exchange(&pair, &listener, family, method)?.in_syn);
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
        exchange(&pair, &listener, family, Method::SendTo)?;
        let held = pair.hold_replies(family)?;
        let server = server_port(family, listener.port());
        let client = Connection::open_without_waiting(&pair.client, server, b"early")?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == b"early");
        ensure!(accepted.info()?.handshake_open && accepted.info()?.syn_data_taken);
        drop(held);
        accepted.send(b"late")?;
        ensure!(client.receive()? == b"late");
        ensure!(!accepted.info()?.handshake_open && client.info()?.syn_data_taken);
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
            ensure!(answered == kind && cookie.len() == Cookie::LEN);
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
                }
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
        let fast = exchange(&pair, &listener, family, Method::SendTo)?;
        ensure!(!plain.in_syn && !request.in_syn && fast.in_syn);
        ensure!(fast.before_handshake && !plain.before_handshake && !request.before_handshake);
        // How much longer it takes is up to the machine, how much shorter is not.
        ensure!(
            plain.took >= ONE_WAY * 4 && request.took >= ONE_WAY * 4 && fast.took >= ONE_WAY * 2
        );
    }
    let kernel = TcpExt::read(&pair.server)?;
    ensure!(kernel.get("TCPFastOpenPassive") == 2 && kernel.get("TCPTimeouts") == 0);
    Ok(())
}
