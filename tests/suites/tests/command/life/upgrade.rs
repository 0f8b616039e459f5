//! Upgrades in place (`attach --replace`).

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use tfo_common::abi::LAYOUT_VERSION;
use tfo_testbed::{
    keys, pins, process,
    socket::Method,
    testbed::{Tally, Testbed},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use super::{LIMIT, shell};
use crate::confinement::AS_THE_HOSTS;

/// Upgrades in one round.
const UPGRADES: usize = 10;

/// Upgrades the program while clients connect: every packet is counted as the kernel counts it, and no client is
/// refused.
pub(super) fn under_load(
    testbed: &Testbed,
    (mode, rounds): (&str, usize),
    tfo: &dyn Fn(&[&str]) -> Result<String>,
) -> Result<()> {
    let listeners = [testbed.listen(Family::V4)?, testbed.listen(Family::V6)?];
    for (listener, family) in listeners.iter().zip(Family::BOTH) {
        testbed.request_cookie(listener, family)?;
    }
    let connections = AtomicI64::new(2);
    let mut programs = vec![program(testbed)?];
    for round in 0..rounds {
        let upgrading = AtomicBool::new(true);
        let load = |listener, family| -> Result<()> {
            while upgrading.load(Ordering::Relaxed) {
                testbed.in_syn(listener, family, Method::SendTo)?;
                connections.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let clients: Vec<_> = listeners
                .iter()
                .zip(Family::BOTH)
                .map(|(listener, family)| scope.spawn(move || load(listener, family)))
                .collect();
            let upgraded = (0..UPGRADES).try_for_each(|upgrade| {
                // Changed settings need another program.
                let bits = if upgrade % 2 == 0 { "24" } else { "32" };
                let arguments = ["attach", "--replace", SERVER_INTERFACE];
                let said = tfo(&[&arguments[..], &["--source-prefix-v4", bits]].concat())?;
                ensure!(said.contains("upgraded in place"), "{said}");
                programs.push(program(testbed)?);
                Ok(())
            });
            upgrading.store(false, Ordering::Relaxed);
            for client in clients {
                client
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            upgraded
        })?;
        let all = connections.load(Ordering::Relaxed);
        let stats = testbed.expect(Tally {
            requests: 2,
            passive: all - 2,
            ..Tally::default()
        });
        let stats = stats.with_context(|| format!("{mode}, round {round}"))?;
        ensure!(stats.counters.get("Syns") == Some(&all), "{all}: {stats:?}");
    }
    let upgrades = rounds * UPGRADES;
    programs.dedup();
    ensure!(programs.len() == upgrades + 1, "{programs:?}");
    eprintln!(
        "{mode}: {upgrades} upgrades, {} connections",
        connections.load(Ordering::Relaxed)
    );
    ensure!(testbed.pair.server.sysctl(keys::SYSCTL)? == keys::COUNTING);
    ensure!(testbed.tfo.json(&["keys", "show"])?["agree"] == true);
    Ok(())
}

/// The id of the attached program, which must be the pinned one.
fn program(testbed: &Testbed) -> Result<u64> {
    let status = testbed.tfo.json(&["status"])?;
    let interface = &status["interfaces"][0];
    ensure!(!interface["mode"].is_null(), "{status}");
    let id = interface["program_id"].as_u64().context("no program")?;
    if let Some((_, attached)) = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)? {
        ensure!(attached == id, "{attached} is attached: {status}");
    }
    let path = pins_of_interface(testbed)?.join("program");
    // A TC filter has no link pin.
    if path.exists() {
        let pinned = aya::programs::ProgramInfo::from_pin(path)?.id();
        ensure!(u64::from(pinned) == id, "{pinned} is pinned: {status}");
    }
    Ok(id)
}

fn pins_of_interface(testbed: &Testbed) -> Result<std::path::PathBuf> {
    let status = testbed.tfo.json(&["status"])?;
    let index = status["interfaces"][0]["index"]
        .as_u64()
        .context("no index")?;
    Ok(pins::directory_of(&testbed.pair.server)?.join(format!("if{index}")))
}

#[test]
fn upgrades_under_load_lose_nothing() -> Result<()> {
    for (mode, rounds) in [("native", 5), ("generic", 1), ("tc", 1)] {
        let pair = Pair::new()?;
        pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        let testbed = Testbed::attach(pair, &["--mode", mode])?;
        under_load(&testbed, (mode, rounds), &|arguments| {
            testbed.tfo.done(arguments)
        })?;
    }
    Ok(())
}

#[test]
fn another_build_is_upgraded_and_the_same_is_kept() -> Result<()> {
    let testbed = Testbed::new()?;
    let own = testbed.tfo.json(&["status"])?["build"].clone();
    let build = |testbed: &Testbed| -> Result<_> {
        Ok(testbed.tfo.json(&["status"])?["interfaces"][0]["build"].clone())
    };
    ensure!(build(&testbed)? == own, "{own}");
    let first = program(&testbed)?;
    let replace = ["attach", "--replace", SERVER_INTERFACE];
    let said = testbed.tfo.done(&replace)?;
    ensure!(
        said.contains("as it is") && program(&testbed)? == first,
        "{said}"
    );

    // Another build's pin: its first word is the digest of the object.
    let map = Map::from_map_data(MapData::from_pin(
        pins_of_interface(&testbed)?.join("build"),
    )?)?;
    let mut map: Array<MapData, [u64; 4]> = map.try_into()?;
    let mut stored = map.get(&0, 0)?;
    stored[0] ^= 1;
    map.set(0, stored, 0)?;
    ensure!(build(&testbed)? != own);
    let refused = testbed.tfo.run(&["attach", SERVER_INTERFACE])?;
    refused.ensure_refused(&["attached already", "another build", "--replace"])?;
    ensure!(program(&testbed)? == first);
    let said = testbed.tfo.done(&replace)?;
    ensure!(
        said.contains("upgraded") && said.contains("another build"),
        "{said}"
    );
    ensure!(program(&testbed)? != first);
    ensure!(build(&testbed)? == own);

    // A data path without the pin `build`.
    std::fs::remove_file(pins_of_interface(&testbed)?.join("build"))?;
    let said = testbed.tfo.done(&replace)?;
    ensure!(
        said.contains("upgraded") && said.contains("an older build"),
        "{said}"
    );
    ensure!(build(&testbed)? == own);
    Ok(())
}

#[test]
fn the_number_of_sources_stays_and_is_said() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--max-sources", "100"])?;
    let before = program(&testbed)?;
    let replace = ["attach", "--replace", SERVER_INTERFACE, "--max-sources"];
    let said = testbed.tfo.done(&[&replace[..], &["200"]].concat())?;
    ensure!(
        said.contains("taken over") && said.contains("at most 100 sources"),
        "{said}"
    );
    let said = testbed
        .tfo
        .done(&[&replace[..], &["200", "--mirror", "packet"]].concat())?;
    ensure!(
        said.contains("upgraded") && said.contains("at most 100 sources"),
        "{said}"
    );
    ensure!(program(&testbed)? != before);
    ensure!(testbed.tfo.json(&["status"])?["interfaces"][0]["mirror"] == "packet");
    Ok(())
}

/// Pins of another layout version differ from this version's in the path only. The test moves them, in a BPF file
/// system of its own.
#[test]
fn another_layout_is_replaced_without_a_gap_and_its_counts_start_anew() -> Result<()> {
    let pair = Pair::new()?;
    for (mode, attached) in [("native", true), ("tc", false)] {
        let script = format!(
            "{AS_THE_HOSTS}
            mount -t bpf bpf /sys/fs/bpf
            cd /sys/fs/bpf
            $tfo attach {SERVER_INTERFACE} --mode {mode} $net
            mkdir tfo/v0; mv tfo/v{LAYOUT_VERSION}/net* tfo/v0/
            $tfo status $net
            echo \"again: $($tfo attach {SERVER_INTERFACE} $net 2>&1)\"
            # The remedy that doctor prints.
            doctor=$($tfo doctor {SERVER_INTERFACE} $net || true)
            remedy=$(echo \"$doctor\" | sed -n 's/.*-> tfo attach --replace/attach --replace/p')
            $tfo $remedy $net
            test ! -e tfo/v0
            $tfo stats --json $net >/dev/null
            $tfo status --json $net | grep '\"mode\": \"{mode}\"'
            ip -n {netns} link show {SERVER_INTERFACE}
            $tfo attach --replace {SERVER_INTERFACE} $net
            mkdir tfo/v0; mv tfo/v{LAYOUT_VERSION}/net* tfo/v0/
            $tfo detach --all $net
            test ! -e tfo/v0",
            netns = pair.server.name(),
        );
        let said = process::succeed(&mut shell(&pair.server, &script), LIMIT)?;
        for part in [
            "by a tfo of layout v0",
            "attached already",
            "upgraded in place",
            "of a build with layout v0",
            "counts start anew",
            "taken over as it is",
            "detached, of another layout version",
        ] {
            ensure!(said.contains(part), "{mode}: no {part:?} in {said}");
        }
        ensure!(said.contains("prog/xdp") == attached, "{said}");
        xdp::ensure_detached(&pair.server, SERVER_INTERFACE)?;
    }
    Ok(())
}
