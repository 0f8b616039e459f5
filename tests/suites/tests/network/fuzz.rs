//! Random SYNs to live listeners, half of them under random policies: every mirrored counter must equal the kernel's.
//!
//! A failure prints the seed and the shortest sequence of SYNs that reproduces it; `TFO_SEED` repeats the run. `cargo
//! xtask fuzz` sends more SYNs.

use anyhow::{Result, ensure};
use tfo_testbed::{fuzz, seed::seed};

const SYNS: u64 = 20_000;

/// Upper bound of batches with a race, of about 150.
const RACES: u64 = 15;

/// With concurrent senders, the data path and the kernel may see different queue lengths, so that a valid cookie is
/// counted as accepted or as a full queue. Nothing else may differ.
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
    // The kernel sees the queue at most a few frames later than the data path.
    ensure!(drift.passive.unsigned_abs() * 10 < load.syns, "{load:?}");
    Ok(())
}

#[test]
fn random_syns_count_as_the_kernel_counts_them() -> Result<()> {
    // A seed short enough to type.
    let seed = seed(fastrand::u64(..1 << 32))?;
    let report = fuzz::run(seed, SYNS, |_| {})?;
    if let Some(difference) = &report.difference {
        anyhow::bail!("{difference}");
    }
    ensure!(report.races <= RACES, "TFO_SEED={seed}: {report:?}");
    // The SYNs covered every outcome.
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
