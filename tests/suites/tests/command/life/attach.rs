//! Coming and going: what `tfo` finds, what it leaves, and who has which keys in between.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;
use tfo_tests::{
    bed::{Bed, Tally, exchange},
    keys,
    socket::Method,
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp::{self, Mode},
};
use tfo_userspace::{datapath::Namespace, keys::Fingerprint};

const ZERO: &str = "00000000-00000000-00000000-00000000";
const LIMIT: Duration = Duration::from_secs(20);

/// Nothing of `tfo` is left in the server's namespace.
fn ensure_gone(bed: &Bed) -> Result<()> {
    let server = &bed.pair.server;
    let program = xdp::attached(server, SERVER_INTERFACE)?;
    ensure!(program.is_none(), "still attached: {program:?}");
    ensure!(!xdp::is_pinned(server)?, "still pinned");
    Ok(())
}

/// The kernel has these keys, and the data path accepts them, as `tfo keys show` tells, and the kernel's own file.
fn ensure_keys(bed: &Bed, text: &str) -> Result<()> {
    ensure!(
        bed.pair.server.sysctl(keys::SYSCTL)? == text,
        "the sysctl changed"
    );
    let shown = bed.tfo.json(&["keys", "show"])?;
    let fingerprints: Value = keys::parse(text)?
        .iter()
        .map(|key| Fingerprint::of(key).to_string())
        .collect();
    // It may accept the key that `tfo run` takes next, too.
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
        ("auto", Mode::Native),
        ("native", Mode::Native),
        ("generic", Mode::Generic),
    ] {
        let pair = Pair::new()?;
        pair.server.set_sysctl(keys::SYSCTL, &both_keys())?;
        let mut bed = Bed::attach(pair, &["--mode", mode])?;
        let attached = xdp::attached(&bed.pair.server, SERVER_INTERFACE)?;
        ensure!(
            attached.is_some_and(|(mode, _)| mode == runs),
            "{attached:?}"
        );
        ensure!(xdp::is_pinned(&bed.pair.server)?);
        let listener = bed.listen(Family::V4)?;
        bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
        bed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure_gone(&bed)?;
        ensure!(
            bed.pair.server.sysctl(keys::SYSCTL)? == both_keys(),
            "the key changed"
        );
        bed.tfo.run(&["stats"])?.ensure_refused(&["tfo attach"])?;

        // The server goes on without it, and what it counted meanwhile is not taken for drift.
        bed.in_syn(&listener, Family::V4, Method::SendTo)?;
        bed.tfo
            .done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
        bed.restart()?;
        bed.expect(Tally::default())?;
        bed.in_syn(&listener, Family::V4, Method::SendTo)?;
        bed.expect(Tally {
            passive: 1,
            ..Tally::default()
        })?;
        bed.tfo.done(&["detach", "--all"])?;
        ensure_gone(&bed)?;
    }
    Ok(())
}

#[test]
fn attach_takes_the_keys_that_the_kernel_has() -> Result<()> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, &both_keys())?;
    let bed = Bed::attach(pair, &[])?;
    ensure_keys(&bed, &both_keys())?;
    let listener = bed.listen(Family::V6)?;
    bed.after_handshake(&listener, Family::V6, Method::SendTo)?;
    keys::ensure_cached(&bed.pair, Family::V6, &keys::parse(keys::COUNTING)?[0])?;
    bed.in_syn(&listener, Family::V6, Method::SendTo)?;
    bed.expect(Tally {
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
    let bed = Bed::attach(pair, &[])?;
    let made = bed.pair.server.sysctl(keys::SYSCTL)?;
    ensure!(made != ZERO && !made.contains(','), "not one random key");
    ensure_keys(&bed, &made)?;
    // The kernel makes one at the first listener, if it has none.
    let listener = bed.listen(Family::V4)?;
    ensure_keys(&bed, &made)?;
    bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    keys::ensure_cached(&bed.pair, Family::V4, &keys::parse(&made)?[0])?;
    Ok(())
}

#[test]
fn what_was_counted_before_is_no_drift() -> Result<()> {
    let pair = Pair::new()?;
    let mut bed = Bed::idle(pair)?;
    let listener = bed.listen(Family::V4)?;
    for _ in 0..3 {
        bed.exchange(&listener, Family::V4, Method::SendTo)?;
    }
    bed.tfo.done(&["attach", SERVER_INTERFACE])?;
    bed.restart()?;
    bed.expect(Tally::default())?;
    bed.in_syn(&listener, Family::V4, Method::SendTo)?;
    bed.expect(Tally {
        passive: 1,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn import_follows_a_key_that_changed_elsewhere() -> Result<()> {
    let bed = Bed::new()?;
    let listener = bed.listen(Family::V4)?;
    bed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
    let shown = bed.tfo.json(&["keys", "show"])?;
    ensure!(shown["kernel"] != shown["data_path"], "{shown}");
    bed.tfo.done(&["keys", "import"])?;
    ensure_keys(&bed, keys::OTHER)?;
    bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    bed.in_syn(&listener, Family::V4, Method::SendTo)?;
    bed.expect(Tally {
        requests: 1,
        passive: 1,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn a_key_that_changed_elsewhere_shows_as_drift_unless_the_mirror_is_exact() -> Result<()> {
    for (mirror, missed) in [("packet", 1), ("exact", 0)] {
        let bed = Bed::attach(Pair::new()?, &["--mirror", mirror])?;
        let listener = bed.listen(Family::V4)?;
        bed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
        bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
        bed.in_syn(&listener, Family::V4, Method::SendTo)?;
        // The kernel knows the cookie; the data path's own keys do not.
        let stats = bed.tfo.stats()?;
        let drift = Tally::of(|name| stats.drift.get(name).copied().unwrap_or(0));
        ensure!(
            drift.passive == -missed && drift.failed == missed,
            "{mirror}: {stats:?}"
        );
        ensure!(bed.equal().is_err() == (missed != 0));
    }
    Ok(())
}

#[test]
fn run_rotates_and_refuses_no_cookie() -> Result<()> {
    const ROTATIONS: u8 = 3;
    for detach in [false, true] {
        let bed = Bed::idle(Pair::new()?)?;
        let mut arguments = vec!["run", "-i", SERVER_INTERFACE, "--interval", "1s"];
        if detach {
            arguments.push("--detach-on-exit");
        }
        let mut running = bed.tfo.start(&arguments)?;
        let start = Instant::now();
        while xdp::attached(&bed.pair.server, SERVER_INTERFACE)?.is_none() {
            ensure!(running.is_running()?, "{:?}", running.wait(LIMIT)?);
            ensure!(
                start.elapsed() < LIMIT,
                "not attached: {:?}",
                running.wait(LIMIT)?
            );
            thread::sleep(Duration::from_millis(5));
        }
        let listener = bed.listen(Family::V6)?;
        for family in Family::BOTH {
            bed.after_handshake(&listener, family, Method::SendTo)?;
        }
        // Clients come often enough for every key, so that none is ever refused.
        let mut seen = vec![bed.pair.server.sysctl(keys::SYSCTL)?];
        let mut passive = 0;
        while seen.len() <= usize::from(ROTATIONS) {
            ensure!(start.elapsed() < LIMIT, "keys: {}", seen.len());
            for family in Family::BOTH {
                bed.in_syn(&listener, family, Method::SendTo)?;
                passive += 1;
            }
            let now = bed.pair.server.sysctl(keys::SYSCTL)?;
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        ensure!(running.is_running()?, "{:?}", running.wait(LIMIT)?);
        let ended = running.terminate(LIMIT)?;
        ensure!(ended.status.success(), "{ended:?}");
        for group in seen.iter().flat_map(|keys| keys.split([',', '-'])) {
            let logged = ended.stdout.contains(group) || ended.stderr.contains(group);
            ensure!(!logged, "a key is logged: {ended:?}");
        }
        if detach {
            ensure_gone(&bed)?;
            continue;
        }
        let keys_now = bed.pair.server.sysctl(keys::SYSCTL)?;
        ensure_keys(&bed, &keys_now)?;
        for family in Family::BOTH {
            bed.in_syn(&listener, family, Method::SendTo)?;
            passive += 1;
        }
        let (_, [ours, told, own, drift]) = bed.compare()?;
        ensure!(
            told == own && ours.less(own) == drift,
            "{ours}, {told}, {own}, {drift}"
        );
        // Each client met each new key once, but perhaps the last. The data path reads the keys where the
        // kernel does: only a SYN between its look and the kernel's may meet its key as primary here and as
        // backup there.
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
        bed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure_gone(&bed)?;
    }
    Ok(())
}

#[test]
fn run_takes_over_what_is_attached() -> Result<()> {
    let bed = Bed::new()?;
    let before = xdp::attached(&bed.pair.server, SERVER_INTERFACE)?;
    let listener = bed.listen(Family::V4)?;
    bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    let key = bed.pair.server.sysctl(keys::SYSCTL)?;
    let mut running = bed
        .tfo
        .start(&["run", "-i", SERVER_INTERFACE, "--interval", "1s"])?;
    let start = Instant::now();
    while bed.pair.server.sysctl(keys::SYSCTL)? == key {
        ensure!(running.is_running()?, "{:?}", running.wait(LIMIT)?);
        ensure!(
            start.elapsed() < LIMIT,
            "no rotation: {:?}",
            running.wait(LIMIT)?
        );
        thread::sleep(Duration::from_millis(5));
    }
    ensure!(running.terminate(LIMIT)?.status.success());
    ensure!(xdp::attached(&bed.pair.server, SERVER_INTERFACE)? == before);
    let stats = bed.equal()?;
    ensure!(
        stats.counters.get("TCPFastOpenCookieReqd") == Some(&1),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn namespaces_have_nothing_in_common() -> Result<()> {
    let (one, other) = (Bed::new()?, Bed::new()?);
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

/// Who looks while maps are made, or go, one after another, sees all of them or none.
#[test]
fn who_looks_amid_an_attach_or_a_detach_is_told_no_error() -> Result<()> {
    const ROUNDS: u32 = 5;
    let bed = Bed::idle(Pair::new()?)?;
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let looker = scope.spawn(|| {
            bed.pair.server.run(|| -> Result<u32> {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) {
                    let namespace = Namespace::current()?;
                    namespace.keys()?;
                    namespace.policy_summary()?;
                    namespace.guard()?;
                    looks += 1;
                }
                Ok(looks)
            })
        });
        let come_and_go = (0..ROUNDS).try_for_each(|_| {
            bed.tfo.done(&["attach", SERVER_INTERFACE])?;
            bed.tfo.done(&["detach", SERVER_INTERFACE]).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let looks = looker.join().unwrap_or_else(|panic| resume_unwind(panic));
        come_and_go.and(looks)
    })?;
    ensure!(looks > 1000, "{looks} looks");
    ensure_gone(&bed)
}
