//! Own cookies: issued in place of the kernel's, and translated to it.

// Switching, renewal under load, moves, kills.
mod life;
// Clients behind a pool of addresses, backends behind one address, at real nftables.
mod nat;
// SYN-ACKs that leave by an interface without `tfo`.
mod routes;

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use tfo_common::fastopen::{
    Key,
    own::{OwnCookies, SECRETS},
};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    raw::{Answer, RawClient, RawSyn},
    seed::seed,
    socket::{Connection, Listener, Method, Settings},
    testbed::{REQUEST, Tally, Testbed},
    tfo::LIMIT,
    tshark::{self, Link},
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::Mode,
};
use tfo_userspace::datapath::{Namespace, OwnCookieChange};

use crate::guard::GuardTestbed;

/// Keys that the server had not before.
const OTHER_KEYS: &str = "00112233-44556677-8899aabb-ccddeeff,01234567-89abcdef-01234567-89abcdef";

/// Two keys of a listener's own.
const KEYS: [u8; 32] = *b"the primary key, the backup key.";

fn testbed(mode: Mode, rules: &[&str]) -> Result<Testbed> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", &mode.to_string()])?;
    testbed.tfo.done(&[&["cookies", "set"], rules].concat())?;
    Ok(testbed)
}

/// Returns the own cookies in force in the server's namespace.
fn in_force(testbed: &Testbed) -> Result<OwnCookies> {
    testbed.pair.server.run(|| {
        let cookies = Namespace::current()?.own_cookies().get()?;
        Ok(*cookies.context("no own cookies")?)
    })
}

/// Has `slots` intervals go by, for the data path; each gives it one more secret, as the controller does: but for the first ones
/// after a boot, when there are no old ones to give up.
fn pass_slots(testbed: &Testbed, slots: u64) -> Result<()> {
    let seed = seed(fastrand::u64(..))?;
    testbed.pair.server.run(|| {
        let namespace = Namespace::current()?;
        let change = OwnCookieChange::begin(&namespace)?;
        let mut cookies = *change.before.clone().context("no own cookies")?;
        for _ in 0..slots {
            cookies.slot += 1;
            let last = cookies.slot.saturating_sub(2 * cookies.lifetime) + SECRETS as u64 - 1;
            if last <= cookies.last {
                continue;
            }
            cookies.last = last;
            let index = cookies.last as usize % SECRETS;
            // Each slot has a secret of its own, whatever the seed is.
            let mut random = Rng::with_seed(seed.wrapping_add(last));
            cookies.secrets[index] = Key::from_words(random.u64(..), random.u64(..));
        }
        Ok(change.renew(&cookies)?)
    })
}

/// The kernel's keys become others, as by a reboot.
fn replace_keys(testbed: &Testbed) -> Result<()> {
    let key = "net.ipv4.tcp_fastopen_key";
    testbed.pair.server.set_sysctl(key, OTHER_KEYS)
}

fn ensure_own(testbed: &Testbed, family: Family) -> Result<[u8; 8]> {
    let cookie = testbed.pair.cached_cookie(family)?.context("no cookie")?;
    let slot = in_force(testbed)?.slot as u8;
    ensure!(cookie[0] == slot, "{cookie:02x?} is not of slot {slot:02x}");
    Ok(cookie)
}

/// A client gets an own cookie, and keeps Fast Open when the kernel's keys are replaced.
#[test]
fn data_is_taken_whatever_keys_the_kernel_has() -> Result<()> {
    for mode in Mode::ALL {
        let testbed = testbed(mode, &[])?;
        for family in Family::BOTH {
            let listener = testbed.listen(family)?;
            testbed.request_cookie(&listener, family)?;
            ensure_own(&testbed, family)?;
            for method in [Method::SendTo, Method::ConnectOption] {
                testbed.in_syn(&listener, family, method)?;
            }
            replace_keys(&testbed)?;
            for _ in 0..2 {
                testbed.in_syn(&listener, family, Method::SendTo)?;
            }
        }
        let stats = testbed.expect(Tally {
            requests: 2,
            passive: 8,
            ..Tally::default()
        })?;
        for (name, count) in [("OwnIssued", 2), ("OwnYoung", 8), ("OwnOld", 0)] {
            ensure!(stats.counters[name] == count, "{mode}: {name}: {stats:?}");
        }
    }
    Ok(())
}

/// Past half of its life a cookie is translated to the backup key, so that the kernel renews it; past its life it is refused
/// once.
#[test]
fn cookies_are_renewed_and_expire() -> Result<()> {
    let testbed = testbed(Mode::Tc, &["--interval", "1h", "--lifetime", "10h"])?;
    for family in Family::BOTH {
        let listener = testbed.listen(family)?;
        testbed.request_cookie(&listener, family)?;
        let first = ensure_own(&testbed, family)?;
        pass_slots(&testbed, 5)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        ensure!(testbed.pair.cached_cookie(family)? == Some(first));
        pass_slots(&testbed, 1)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        let second = ensure_own(&testbed, family)?;
        ensure!(first != second, "not renewed: {second:02x?}");
        pass_slots(&testbed, 11)?;
        testbed.after_handshake(&listener, family, Method::SendTo)?;
        let third = ensure_own(&testbed, family)?;
        ensure!(third != second, "no new one: {third:02x?}");
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    let stats = testbed.expect(Tally {
        requests: 2,
        passive: 6,
        alt_key: 2,
        failed: 2,
        ..Tally::default()
    })?;
    for (name, count) in [
        ("OwnYoung", 2),
        ("OwnLasting", 2),
        ("OwnOld", 2),
        ("OwnExpired", 2),
    ] {
        ensure!(stats.counters[name] == count, "{name}: {stats:?}");
    }
    Ok(())
}

/// A listener's own keys: the cookie is translated to those. A single one cannot renew.
#[test]
fn listeners_with_keys_of_their_own_take_own_cookies() -> Result<()> {
    let testbed = testbed(Mode::Tc, &["--interval", "1h", "--lifetime", "10h"])?;
    for (keys, alt_key) in [(&KEYS[..16], 0), (&KEYS, 1)] {
        testbed.pair.forget_cookies()?;
        let settings = Settings {
            keys,
            ..Settings::FAST_OPEN
        };
        let address = SocketAddr::new(Family::V4.unspecified(), 0);
        let listener = Listener::with(&testbed.pair.server, address, &settings)?;
        let before = testbed.equal()?.counters["TCPFastOpenPassiveAltKey"];
        testbed.request_cookie(&listener, Family::V4)?;
        ensure_own(&testbed, Family::V4)?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        pass_slots(&testbed, 7)?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        let after = testbed.equal()?.counters["TCPFastOpenPassiveAltKey"];
        ensure!(after - before == alt_key, "{before} to {after}");
    }
    Ok(())
}

/// A cookie is good for its prefix and its server address alone.
#[test]
fn a_cookie_of_another_prefix_is_refused() -> Result<()> {
    // Spare addresses are 10.77.0.50 and so on: 10.77.0.48/28, fd77::/64.
    let testbed = testbed(
        Mode::Tc,
        &["--client-prefix-v4", "28", "--client-prefix-v6", "64"],
    )?;
    let listener = testbed.listen(Family::V6)?;
    let mut clients = Vec::new();
    for number in [0, 1, 30] {
        clients.push(RawClient::new(&testbed.pair, Family::V4, number)?);
    }
    let server = server_port(Family::V4, listener.port());
    for kind in [34, 254] {
        let pair = &testbed.pair;
        let asked = clients[0].send_in(pair, server, &RawSyn::fast_open(kind, &[], b""))?;
        let Answer::SynAck {
            cookie: Some((_, cookie)),
            ..
        } = asked
        else {
            bail!("no cookie: {asked:?}");
        };
        for (number, taken) in [(0, 4), (1, 4), (2, 0)] {
            let syn = RawSyn::fast_open(kind, &cookie, b"data");
            let answer = clients[number].send_in(pair, server, &syn)?;
            let Answer::SynAck { acked, .. } = answer else {
                bail!("{kind} {number}: {answer:?}");
            };
            ensure!(acked == taken, "{kind} {number}: {answer:?}");
        }
    }
    listener.reset_all()?;
    testbed.equal()?;
    Ok(())
}

/// Frames for another MAC address are not translated, as those of a virtual router's device above the interface; so the
/// answers to them hold the kernel's cookies.
#[test]
fn what_is_not_translated_is_not_issued() -> Result<()> {
    let testbed = testbed(Mode::Tc, &[])?;
    let pair = &testbed.pair;
    pair.server.configure(&[
        format!("link add vr0 link {SERVER_INTERFACE} address 00:00:5e:00:01:05 type macvlan mode private"),
        "link set vr0 up".to_owned(),
        "addr add 10.77.0.9/32 dev vr0".to_owned(),
    ])?;
    pair.client.ip(&[
        "neigh",
        "replace",
        "10.77.0.9",
        "lladdr",
        "00:00:5e:00:01:05",
        "dev",
        CLIENT_INTERFACE,
    ])?;
    let listener = testbed.listen(Family::V4)?;
    let server = SocketAddr::from(([10, 77, 0, 9], listener.port()));
    let mut taken = Vec::new();
    for _ in 0..3 {
        let client = Connection::open(&pair.client, server, Method::SendTo, REQUEST)?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        accepted.send(REQUEST)?;
        ensure!(client.receive()? == REQUEST);
        taken.push(client.info()?.syn_data_taken);
    }
    ensure!(taken == [false, true, true], "{taken:?}");
    Ok(())
}

/// The guard's challenges hand out own cookies, which prove their sender like the kernel's.
#[test]
fn the_guard_hands_out_own_cookies() -> Result<()> {
    for mode in Mode::ALL {
        let guarded = GuardTestbed::new(mode)?;
        let testbed = &guarded.base;
        testbed.tfo.done(&["cookies", "set"])?;
        testbed.tfo.done(&["guard", "set", "on", "--force"])?;
        for family in Family::BOTH {
            let listener = testbed.listen(family)?;
            testbed.request_cookie(&listener, family)?;
            ensure_own(testbed, family)?;
            replace_keys(testbed)?;
            testbed.in_syn(&listener, family, Method::SendTo)?;
        }
        let stats = testbed.equal()?;
        for (name, count) in [("GuardCookies", 2), ("GuardProven", 2), ("OwnYoung", 2)] {
            ensure!(stats.counters[name] == count, "{mode}: {name}: {stats:?}");
        }
    }
    Ok(())
}

/// A policy sees an own cookie as a valid one, and an expired one as a bad one.
#[test]
fn policies_see_what_the_kernel_would() -> Result<()> {
    let testbed = testbed(Mode::Tc, &["--interval", "1h", "--lifetime", "10h"])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    replace_keys(&testbed)?;
    testbed.tfo.done(&["policy", "set", "--bad", "fallback"])?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    testbed.tfo.done(&["policy", "set", "--valid", "reissue"])?;
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    pass_slots(&testbed, 11)?;
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    let stats = testbed.equal()?;
    for (name, count) in [
        ("PolicyReissue", 1),
        ("PolicyFallback", 1),
        ("OwnExpired", 1),
    ] {
        ensure!(stats.counters[name] == count, "{name}: {stats:?}");
    }
    Ok(())
}

/// Wireshark finds no fault in the SYN-ACKs that leave, with and without checksum offload.
#[test]
fn what_leaves_is_well_formed() -> Result<()> {
    for offload in ["on", "off"] {
        let testbed = testbed(Mode::Tc, &[])?;
        let ethtool = ["-K", SERVER_INTERFACE, "tx", offload];
        testbed.pair.server.done("ethtool", &ethtool)?;
        let mut frames = Vec::new();
        for (family, captured) in [(Family::V4, Frames::Ipv4), (Family::V6, Frames::Ipv6)] {
            let listener = testbed.listen(family)?;
            let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, captured)?;
            let mut client = RawClient::new(&testbed.pair, family, 3)?;
            let server = server_port(family, listener.port());
            for kind in [34, 254] {
                client.send(server, &RawSyn::fast_open(kind, &[], b""))?;
                frames.push(link.receive(LIMIT)?.context("no SYN-ACK")?);
            }
        }
        let slot = format!("{:02x}", in_force(&testbed)?.slot as u8);
        for segment in tshark::decode(Link::Ethernet, &frames)? {
            // An unfinished checksum is the device's to complete.
            let unfinished = |error: &String| offload == "on" && error.starts_with("Bad checksum");
            ensure!(segment.errors.iter().all(unfinished), "{segment:?}");
            ensure!(segment.checksum || offload == "on", "{segment:?}");
            if segment.kinds.contains(&34) {
                ensure!(segment.cookie.starts_with(&slot), "{segment:?}");
            }
        }
    }
    Ok(())
}
