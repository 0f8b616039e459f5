//! Attach and detach: prior state, state left behind, and the keys on both sides.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    keys,
    poll::eventually,
    socket::Method,
    testbed::{Tally, Testbed, exchange},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp::{self, Mode},
};
use tfo_userspace::{datapath::Namespace, model::Fingerprint};

const ZERO: &str = "00000000-00000000-00000000-00000000";
const LIMIT: Duration = Duration::from_secs(60);

/// Fails if a program or pin of `tfo` is left in the server's namespace.
fn ensure_gone(testbed: &Testbed) -> Result<()> {
    let server = &testbed.pair.server;
    let program = xdp::attached(server, SERVER_INTERFACE)?;
    ensure!(program.is_none(), "still attached: {program:?}");
    ensure!(!xdp::is_pinned(server)?, "still pinned");
    Ok(())
}

/// Fails unless the kernel has these keys and the data path accepts them, by `tfo keys show` and the sysctl.
fn ensure_keys(testbed: &Testbed, text: &str) -> Result<()> {
    ensure!(
        testbed.pair.server.sysctl(keys::SYSCTL)? == text,
        "the sysctl changed"
    );
    let shown = testbed.tfo.json(&["keys", "show"])?;
    let fingerprints: Value = keys::parse(text)?
        .iter()
        .map(|key| Fingerprint::of(key).to_string())
        .collect();
    // The data path may also accept the next key of `tfo run`.
    let staged = shown["data_path"].as_array().and_then(|accepted| {
        let expected = fingerprints.as_array()?;
        accepted.strip_prefix(expected.as_slice())
    });
    ensure!(
        shown["kernel"] == fingerprints && staged.is_some_and(|staged| staged.len() <= 1),
        "{shown}, not {fingerprints}"
    );
    ensure!(shown["agree"] == true, "{shown}");
    for group in text.split([',', '-']) {
        ensure!(!shown.to_string().contains(group), "a key is shown");
    }
    Ok(())
}

fn both_keys() -> String {
    format!("{},{}", keys::COUNTING, keys::OTHER)
}

#[test]
fn detach_leaves_nothing() -> Result<()> {
    for (mode, runs) in [
        ("auto", Mode::Tc),
        ("native", Mode::Native),
        ("generic", Mode::Generic),
    ] {
        let pair = Pair::new()?;
        pair.server.set_sysctl(keys::SYSCTL, &both_keys())?;
        let mut testbed = Testbed::attach(pair, &["--mode", mode])?;
        let attached = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?;
        ensure!(
            attached.is_some_and(|(mode, _)| mode == runs),
            "{attached:?}"
        );
        xdp::ensure_pinned(&testbed.pair.server, true)?;
        let listener = testbed.listen(Family::V4)?;
        testbed.request_cookie(&listener, Family::V4)?;
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure_gone(&testbed)?;
        ensure!(
            testbed.pair.server.sysctl(keys::SYSCTL)? == both_keys(),
            "the key changed"
        );
        testbed
            .tfo
            .run(&["stats"])?
            .ensure_refused(&["tfo attach"])?;

        // After detach the kernel still accepts cookies. Its counts while detached are not drift.
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        testbed
            .tfo
            .done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
        testbed.restart()?;
        testbed.expect(Tally::default())?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        testbed.expect(Tally {
            passive: 1,
            ..Tally::default()
        })?;
        testbed.tfo.done(&["detach", "--all"])?;
        ensure_gone(&testbed)?;
    }
    Ok(())
}

#[test]
fn attach_takes_the_keys_that_the_kernel_has() -> Result<()> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, &both_keys())?;
    let testbed = Testbed::attach(pair, &[])?;
    ensure_keys(&testbed, &both_keys())?;
    let listener = testbed.listen(Family::V6)?;
    testbed.request_cookie(&listener, Family::V6)?;
    keys::ensure_cached(&testbed.pair, Family::V6, &keys::parse(keys::COUNTING)?[0])?;
    testbed.in_syn(&listener, Family::V6, Method::SendTo)?;
    testbed.expect(Tally {
        requests: 1,
        passive: 1,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn attach_makes_a_key_where_there_is_none() -> Result<()> {
    let pair = Pair::new()?;
    ensure!(pair.server.sysctl(keys::SYSCTL)? == ZERO);
    let testbed = Testbed::attach(pair, &[])?;
    let made = testbed.pair.server.sysctl(keys::SYSCTL)?;
    ensure!(made != ZERO && !made.contains(','), "not one random key");
    ensure_keys(&testbed, &made)?;
    // The kernel generates a key at the first listener if it has none.
    let listener = testbed.listen(Family::V4)?;
    ensure_keys(&testbed, &made)?;
    testbed.request_cookie(&listener, Family::V4)?;
    keys::ensure_cached(&testbed.pair, Family::V4, &keys::parse(&made)?[0])?;
    Ok(())
}

#[test]
fn what_was_counted_before_is_no_drift() -> Result<()> {
    let pair = Pair::new()?;
    let mut testbed = Testbed::idle(pair)?;
    let listener = testbed.listen(Family::V4)?;
    for _ in 0..3 {
        testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    }
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    testbed.restart()?;
    testbed.expect(Tally::default())?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    testbed.expect(Tally {
        passive: 1,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn import_follows_a_key_that_changed_elsewhere() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
    let shown = testbed.tfo.json(&["keys", "show"])?;
    ensure!(shown["kernel"] != shown["data_path"], "{shown}");
    testbed.tfo.done(&["keys", "import"])?;
    ensure_keys(&testbed, keys::OTHER)?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    testbed.expect(Tally {
        requests: 1,
        passive: 1,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn a_key_that_changed_elsewhere_shows_as_drift_unless_the_mirror_is_exact() -> Result<()> {
    for (mirror, missed) in [("packet", 1), ("exact", 0)] {
        let testbed = Testbed::attach(Pair::new()?, &["--mirror", mirror])?;
        let listener = testbed.listen(Family::V4)?;
        testbed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
        testbed.request_cookie(&listener, Family::V4)?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        // The kernel accepts the cookie; the data path's own keys do not.
        let stats = testbed.tfo.stats()?;
        let drift = Tally::of(|name| stats.drift.get(name).copied().unwrap_or(0));
        ensure!(
            drift.passive == -missed && drift.failed == missed,
            "{mirror}: {stats:?}"
        );
        ensure!(testbed.equal().is_err() == (missed != 0));
    }
    Ok(())
}

#[test]
fn run_rotates_and_refuses_no_cookie() -> Result<()> {
    const ROTATIONS: u8 = 3;
    for detach in [false, true] {
        let testbed = Testbed::idle(Pair::new()?)?;
        let mut arguments = vec!["run", "-i", SERVER_INTERFACE, "--interval", "1s"];
        if detach {
            arguments.push("--detach-on-exit");
        }
        let mut running = testbed.tfo.start(&arguments)?;
        eventually("it is attached", LIMIT, || {
            ensure!(running.is_running()?, "tfo ended: {:?}", running.written());
            Ok(xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?.is_some())
        })?;
        let listener = testbed.listen(Family::V6)?;
        for family in Family::BOTH {
            testbed.request_cookie(&listener, family)?;
        }
        // Clients connect often enough to see every key, so that no cookie is refused.
        let mut seen = vec![testbed.pair.server.sysctl(keys::SYSCTL)?];
        let mut passive = 0;
        eventually("the keys rotated", LIMIT, || {
            for family in Family::BOTH {
                testbed.in_syn(&listener, family, Method::SendTo)?;
                passive += 1;
            }
            let now = testbed.pair.server.sysctl(keys::SYSCTL)?;
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            Ok(seen.len() > usize::from(ROTATIONS))
        })?;
        ensure!(running.is_running()?, "tfo ended: {:?}", running.written());
        let ended = running.terminate(LIMIT)?;
        ensure!(ended.status.success(), "{ended:?}");
        for group in seen.iter().flat_map(|keys| keys.split([',', '-'])) {
            let logged = ended.stdout.contains(group) || ended.stderr.contains(group);
            ensure!(!logged, "a key is logged: {ended:?}");
        }
        if detach {
            ensure_gone(&testbed)?;
            continue;
        }
        let keys_now = testbed.pair.server.sysctl(keys::SYSCTL)?;
        ensure_keys(&testbed, &keys_now)?;
        for family in Family::BOTH {
            testbed.in_syn(&listener, family, Method::SendTo)?;
            passive += 1;
        }
        let (_, [ours, told, own, drift]) = testbed.compare()?;
        ensure!(
            told == own && ours.less(own) == drift,
            "{ours}, {told}, {own}, {drift}"
        );
        // Each client meets each new key once, except perhaps the last. The data path and the kernel read the keys at
        // different times: a SYN that arrives in between meets its key as primary in one and as backup in the other.
        let rotations = i64::from(2 * ROTATIONS);
        ensure!(
            own.requests == 2
                && own.passive == passive
                && own.failed == 0
                && (rotations - 2..=rotations + 2).contains(&own.alt_key)
                && drift.alt_key.abs() <= 2
                && Tally {
                    alt_key: 0,
                    ..drift
                } == Tally::default(),
            "{passive} connections: the kernel {own}, drift {drift}"
        );
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure_gone(&testbed)?;
    }
    Ok(())
}

#[test]
fn run_takes_over_what_is_attached() -> Result<()> {
    let testbed = Testbed::new()?;
    let before = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let key = testbed.pair.server.sysctl(keys::SYSCTL)?;
    let mut running = testbed
        .tfo
        .start(&["run", "-i", SERVER_INTERFACE, "--interval", "1s"])?;
    eventually("a rotation", LIMIT, || {
        ensure!(running.is_running()?, "tfo ended: {:?}", running.written());
        Ok(testbed.pair.server.sysctl(keys::SYSCTL)? != key)
    })?;
    let ended = running.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(xdp::attached(&testbed.pair.server, SERVER_INTERFACE)? == before);
    let stats = testbed.equal()?;
    ensure!(
        stats.counters.get("TCPFastOpenCookieReqd") == Some(&1),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn namespaces_have_nothing_in_common() -> Result<()> {
    let (one, other) = (Testbed::new()?, Testbed::new()?);
    let listener = one.listen(Family::V4)?;
    exchange(&one.pair, &listener, Family::V4, Method::SendTo)?;
    other.tfo.done(&["detach", "--all"])?;
    ensure_gone(&other)?;
    one.expect(Tally {
        requests: 1,
        ..Tally::default()
    })?;
    Ok(())
}

/// A reader during attach or detach sees all maps or none, although they are created and removed one by one.
#[test]
fn who_looks_amid_an_attach_or_a_detach_is_told_no_error() -> Result<()> {
    const ROUNDS: u32 = 5;
    // The rounds continue until this many reads were made, on a slow machine too.
    const LOOKS: u32 = 1000;
    let testbed = Testbed::idle(Pair::new()?)?;
    let done = AtomicBool::new(false);
    let looks = AtomicU32::new(0);
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            testbed.pair.server.run(|| -> Result<()> {
                while !done.load(Ordering::Relaxed) {
                    let namespace = Namespace::current()?;
                    namespace.keys().accepted()?;
                    namespace.policy().summary()?;
                    namespace.guard().state()?;
                    looks.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let come_and_go = || -> Result<()> {
            let mut rounds = 0;
            while rounds < ROUNDS || looks.load(Ordering::Relaxed) < LOOKS && !looker.is_finished()
            {
                testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
                testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
                rounds += 1;
            }
            Ok(())
        };
        let came_and_went = come_and_go();
        done.store(true, Ordering::Relaxed);
        let all_looks = looker.join().unwrap_or_else(|panic| resume_unwind(panic));
        came_and_went.and(all_looks)
    })?;
    ensure_gone(&testbed)
}
