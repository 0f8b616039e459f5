//! What it all came to: both counts side by side, and the time saved.

use std::time::Duration;

use anyhow::Result;
use tfo_common::counters::Counter;
use tfo_tests::bed::Bed;

use crate::script::milliseconds;

/// How long the client waited for its replies.
#[derive(Debug, Default)]
pub(crate) struct Times {
    plain: Vec<Duration>,
    fast: Vec<Duration>,
}

impl Times {
    /// Notes one connection: `fast` where its request went in the SYN.
    pub(crate) fn add(&mut self, fast: bool, took: Duration) {
        let times = if fast {
            &mut self.fast
        } else {
            &mut self.plain
        };
        times.push(took);
    }
}

/// Prints what `tfo` counted beside what the kernel's own file says. `true` where they are equal.
pub(crate) fn counters(bed: &Bed) -> Result<bool> {
    let stats = bed.tfo.stats()?;
    let kernel = bed.kernel()?;
    let mut equal = true;
    println!(
        "\n  {:<26}{:>8}{:>8}{:>8}",
        "counter", "tfo", "kernel", "drift"
    );
    for counter in Counter::ALL {
        let name = counter.name();
        let ours = stats.counters.get(name).copied().unwrap_or_default();
        if Counter::MIRRORED.contains(&counter) {
            let theirs = kernel.get(name).cast_signed();
            let drift = ours - theirs;
            equal &= drift == 0 && stats.drift.get(name) == Some(&0);
            println!("  {name:<26}{ours:>8}{theirs:>8}{drift:>8}");
        } else {
            println!("  {name:<26}{ours:>8}");
        }
    }
    let verdict = if equal {
        "tfo and the kernel counted the same"
    } else {
        "tfo and the kernel did not count the same"
    };
    println!("\n  {verdict}");
    Ok(equal)
}

/// Prints how much sooner a reply came where the request went in the SYN.
pub(crate) fn times(bed: &Bed, times: &Times) {
    let (Some(plain), Some(fast)) = (median(&times.plain), median(&times.fast)) else {
        return;
    };
    let saved = milliseconds(plain) - milliseconds(fast);
    let round_trip = milliseconds(bed.pair.one_way()) * 2.0;
    println!(
        "  with the request in the SYN the reply came after {:.1} ms, else after {:.1} ms (medians of {} \
         and {}):\n  {saved:.1} ms saved, or {:.2} round trips of {round_trip} ms",
        milliseconds(fast),
        milliseconds(plain),
        times.fast.len(),
        times.plain.len(),
        saved / round_trip,
    );
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
