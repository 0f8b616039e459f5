//! Random SYNs to real listeners, half of them under random policies: every mirrored counter equals the kernel's,
//! whatever came and whatever was done to it.
//!
//! A failure names the seed and the shortest SYNs that show it; `TFO_SEED` gives the run again.
//! `cargo xtask fuzz` sends more of them.

use std::env;

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::fuzz;

const SYNS: u64 = 20_000;

/// How many batches of the about 150 may be disturbed by what else the machine does.
const RACES: u64 = 15;

/// A SYN with a good cookie is taken or meets a full queue; which of the two, data path and kernel may
/// see differently where the queue changes between their looks. Nothing else may differ.
#[test]
fn senders_at_once_differ_by_races_alone() -> Result<()> {
    const SENDERS: u16 = 4;
    const EACH: u16 = 10_000;
    let load = fuzz::load(SENDERS, EACH)?;
    println!("{load:?}");
    let (kernel, drift) = (load.kernel, load.drift);
    ensure!(kernel.passive >= 3 && kernel.overflows > 100, "{load:?}");
    ensure!(drift.passive + drift.overflows == 0, "{load:?}");
    ensure!(
        (drift.requests, drift.failed, drift.alt_key) == (0, 0, 0),
        "{load:?}"
    );
    // The kernel looks at most some frames later than the data path.
    ensure!(drift.passive.unsigned_abs() * 10 < load.syns, "{load:?}");
    Ok(())
}

#[test]
fn random_syns_count_as_the_kernel_counts_them() -> Result<()> {
    let seed = match env::var("TFO_SEED") {
        Ok(seed) => seed.parse().context("TFO_SEED is not a number")?,
        Err(_) => fastrand::u64(..1 << 32),
    };
    println!("TFO_SEED={seed}");
    let report = fuzz::run(seed, SYNS, |_| {})?;
    if let Some(difference) = &report.difference {
        anyhow::bail!("{difference}");
    }
    ensure!(report.races <= RACES, "TFO_SEED={seed}: {report:?}");
    // The SYNs were not all alike.
    let kernel = report.kernel;
    for (name, count) in [
        ("requests", kernel.requests),
        ("passive", kernel.passive),
        ("failed", kernel.failed),
        ("alt_key", kernel.alt_key),
        ("overflows", kernel.overflows),
    ] {
        ensure!(count > 30, "{name}: {report:?}");
    }
    Ok(())
}
