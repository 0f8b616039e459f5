//! Fast Open over veth: `tfo` and the kernel count the same for requests, cookies, rotations and lost keys.
//!
//! Every test ends in [`Testbed::expect`]: the data path's counters, the kernel's as `tfo` prints them, and the
//! kernel's as the test reads them must be equal to the expected counts.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    socket::{Connection, Listener, Method},
    testbed::{REQUEST, Tally, Testbed},
    veth::{Family, Pair, server_port},
};

/// Generates a test for each family from a function that takes one.
macro_rules! for_both_families {
    ($($test:ident => $v4:ident, $v6:ident;)*) => {$(
        #[test]
        fn $v4() -> Result<()> {
            $test(Family::V4)
        }

        #[test]
        fn $v6() -> Result<()> {
            $test(Family::V6)
        }
    )*};
}

for_both_families! {
    a_request_then_data_in_the_syn => a_request_then_data_in_the_syn_v4, a_request_then_data_in_the_syn_v6;
    rotation => rotation_fails_no_cookie_v4, rotation_fails_no_cookie_v6;
    a_lost_key => a_lost_key_fails_once_v4, a_lost_key_fails_once_v6;
    generic => generic_mode_counts_alike_v4, generic_mode_counts_alike_v6;
    connect_option => connect_option_counts_alike_v4, connect_option_counts_alike_v6;
}

fn a_request_then_data_in_the_syn(family: Family) -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(family)?;
    testbed.request_cookie(&listener, family)?;
    let mut tally = Tally {
        requests: 1,
        ..Tally::default()
    };
    testbed.expect(tally)?;

    // No reply reaches the client, so the server's first data was in the SYN.
    let held = testbed.pair.hold_replies(family)?;
    let server = server_port(family, listener.port());
    let client = Connection::open_without_waiting(&testbed.pair.client, server, b"early")?;
    let accepted = listener.accept()?;
    ensure!(accepted.receive()? == b"early");
    let info = accepted.info()?;
    ensure!(info.handshake_open && info.syn_data_taken, "{info:?}");
    tally.passive += 1;
    testbed.expect(tally)?;

    // Retransmissions are not counted.
    drop(held);
    accepted.send(b"late")?;
    ensure!(client.receive()? == b"late");
    let ends = [client.info()?, accepted.info()?];
    ensure!(
        ends[0].syn_data_taken && !ends[1].handshake_open,
        "{ends:?}"
    );
    testbed.expect(tally)?;
    Ok(())
}

fn rotation(family: Family) -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(family)?;
    testbed.request_cookie(&listener, family)?;
    let mut tally = Tally {
        requests: 1,
        ..Tally::default()
    };
    for _ in 0..3 {
        let old = keys::of_kernel(&testbed.pair.server)?;
        testbed.tfo.done(&["keys", "rotate"])?;
        let new = keys::of_kernel(&testbed.pair.server)?;
        ensure!(new.len() == 2);
        ensure!(new[1] == old[0]);
        ensure!(new[0] != old[0]);
        keys::ensure_cached(&testbed.pair, family, &old[0])?;

        // A cookie of the old key is accepted, and answered with one of the new key.
        testbed.in_syn(&listener, family, Method::SendTo)?;
        tally.passive += 1;
        tally.alt_key += 1;
        testbed.expect(tally)?;
        keys::ensure_cached(&testbed.pair, family, &new[0])?;

        testbed.in_syn(&listener, family, Method::SendTo)?;
        tally.passive += 1;
        testbed.expect(tally)?;
    }
    Ok(())
}

fn a_lost_key(family: Family) -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(family)?;
    testbed.request_cookie(&listener, family)?;
    let file = KeyFile::new(keys::COUNTING)?;
    testbed.tfo.done(&["keys", "set", "--file", file.path()])?;
    ensure!(testbed.pair.server.sysctl(keys::SYSCTL)? == keys::COUNTING);

    // The connection succeeds without its data in the SYN, and brings a new cookie.
    testbed.request_cookie(&listener, family)?;
    let mut tally = Tally {
        requests: 1,
        failed: 1,
        ..Tally::default()
    };
    testbed.expect(tally)?;
    keys::ensure_cached(
        &testbed.pair,
        family,
        &keys::of_kernel(&testbed.pair.server)?[0],
    )?;

    testbed.in_syn(&listener, family, Method::SendTo)?;
    tally.passive += 1;
    testbed.expect(tally)?;
    Ok(())
}

fn generic(family: Family) -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", "generic"])?;
    full_cycle(&testbed, family, Method::SendTo)
}

fn connect_option(family: Family) -> Result<()> {
    full_cycle(&Testbed::new()?, family, Method::ConnectOption)
}

/// Request, cookie, backup key, lost key, and a cookie again.
fn full_cycle(testbed: &Testbed, family: Family, method: Method) -> Result<()> {
    let listener = testbed.listen(family)?;
    testbed.after_handshake(&listener, family, method)?;
    testbed.in_syn(&listener, family, method)?;
    testbed.tfo.done(&["keys", "rotate"])?;
    testbed.in_syn(&listener, family, method)?;
    let file = KeyFile::new(keys::COUNTING)?;
    testbed.tfo.done(&["keys", "set", "--file", file.path()])?;
    testbed.after_handshake(&listener, family, method)?;
    testbed.in_syn(&listener, family, method)?;
    let stats = testbed.expect(Tally {
        requests: 1,
        passive: 3,
        failed: 1,
        alt_key: 1,
        ..Tally::default()
    })?;
    // Four of the five SYNs had a cookie and therefore data.
    let request = i64::try_from(REQUEST.len())?;
    let own = |name: &str| stats.counters.get(name).copied();
    ensure!(
        own("Syns") == Some(5)
            && own("SynsWithData") == Some(4)
            && own("SynDataBytes") == Some(4 * request)
            && own("OptionsMalformed") == Some(0),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_has_an_ipv4_cookie() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
        keys::ensure_cached(
            &testbed.pair,
            family,
            &keys::of_kernel(&testbed.pair.server)?[0],
        )?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    testbed.expect(Tally {
        requests: 2,
        passive: 2,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn every_port_has_its_own_counters() -> Result<()> {
    let testbed = Testbed::new()?;
    let one = testbed.listen(Family::V4)?;
    let other = testbed.listen(Family::V6)?;
    for _ in 0..3 {
        testbed.exchange(&one, Family::V4, Method::SendTo)?;
    }
    testbed.request_cookie(&other, Family::V6)?;
    testbed.expect(Tally {
        requests: 2,
        passive: 2,
        ..Tally::default()
    })?;
    let ports = testbed.tfo.stats_by_port()?;
    for (port, syns, requests, passive) in [(one.port(), 3, 1, 2), (other.port(), 1, 1, 0)] {
        let counters = ports.get(&port).cloned().unwrap_or_default();
        let of = |name: &str| counters.get(name).copied();
        ensure!(
            of("Syns") == Some(syns)
                && of("TCPFastOpenCookieReqd") == Some(requests)
                && of("TCPFastOpenPassive") == Some(passive),
            "port {port} of {ports:?}"
        );
    }
    let syns: i64 = ports.values().filter_map(|port| port.get("Syns")).sum();
    ensure!(syns == 4, "{ports:?}");
    Ok(())
}

#[test]
fn many_clients_at_once_lose_no_count() -> Result<()> {
    const CONNECTIONS: u16 = 300;
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let server = scope.spawn(|| -> Result<usize> {
            let mut bytes = 0;
            for _ in 0..2 * CONNECTIONS {
                bytes += listener.accept()?.receive()?.len();
            }
            Ok(bytes)
        });
        let clients = Family::BOTH.map(|family| {
            let testbed = &testbed;
            let server = server_port(family, listener.port());
            scope.spawn(move || -> Result<()> {
                for _ in 0..CONNECTIONS {
                    Connection::open(&testbed.pair.client, server, Method::SendTo, b"data")?;
                }
                Ok(())
            })
        });
        for client in clients {
            client.join().expect("no panic")?;
        }
        ensure!(server.join().expect("no panic")? == usize::from(2 * CONNECTIONS) * 4);
        Ok(())
    })?;
    testbed.expect(Tally {
        requests: 2,
        passive: i64::from(2 * CONNECTIONS),
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn a_plain_client_counts_as_a_syn_alone() -> Result<()> {
    let testbed = Testbed::new()?;
    let address = SocketAddr::new(Family::V6.unspecified(), 0);
    let listener = Listener::plain(&testbed.pair.server, address)?;
    for family in Family::BOTH {
        testbed.after_handshake(&listener, family, Method::Plain)?;
    }
    let stats = testbed.expect(Tally::default())?;
    ensure!(stats.counters.get("Syns") == Some(&2), "{stats:?}");
    Ok(())
}
