//! Final report: counters of `tfo` and of the kernel, and the time saved.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tfo_common::counters::Counter;
use tfo_testbed::testbed::{Exchange, Testbed};

use crate::script::milliseconds;

/// Times from connect to reply.
#[derive(Debug, Default)]
pub(crate) struct Times {
    plain: Vec<Duration>,
    fast: Vec<Duration>,
    /// Requests that the server read before the handshake completed.
    early: usize,
}

impl Times {
    /// Records one connection.
    pub(crate) fn add(&mut self, exchange: &Exchange) {
        if exchange.in_syn {
            self.fast.push(exchange.took);
            self.early += usize::from(exchange.before_handshake);
        } else {
            self.plain.push(exchange.took);
        }
    }
}

/// Prints one line. Unlike `println!`, does not panic on a closed pipe.
pub(crate) fn line(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("cannot write")
}

/// Prints the counters of `tfo` next to `/proc/net/netstat`. `true` if they are equal.
pub(crate) fn counters(testbed: &Testbed) -> Result<bool> {
    let stats = testbed.tfo.stats()?;
    let kernel = testbed.kernel()?;
    let mut equal = true;
    line(&format!(
        "\n  {:<26}{:>8}{:>8}{:>8}",
        "counter", "tfo", "kernel", "drift"
    ))?;
    for counter in Counter::ALL {
        let name = counter.name();
        let ours = stats.counters.get(name).copied().unwrap_or_default();
        if Counter::MIRRORED.contains(&counter) {
            let theirs = kernel.get(name).cast_signed();
            let drift = ours - theirs;
            equal &= drift == 0 && stats.drift.get(name) == Some(&0);
            if ours != 0 || theirs != 0 {
                line(&format!("  {name:<26}{ours:>8}{theirs:>8}{drift:>8}"))?;
            }
        } else if ours != 0 {
            line(&format!("  {name:<26}{ours:>8}"))?;
        }
    }
    let verdict = if equal {
        "tfo and the kernel counted the same"
    } else {
        "tfo and the kernel did not count the same"
    };
    line(&format!("\n  {verdict}"))?;
    Ok(equal)
}

/// Prints the time that sending the request in the SYN saves.
pub(crate) fn times(testbed: &Testbed, times: &Times) -> Result<()> {
    let (Some(plain), Some(fast)) = (median(&times.plain), median(&times.fast)) else {
        return Ok(());
    };
    let saved = milliseconds(plain) - milliseconds(fast);
    let round_trip = milliseconds(testbed.pair.one_way()) * 2.0;
    line(&format!(
        "  the server read {} of {} requests in a SYN before the handshake completed; median time to reply: \
                 {:.1} ms,\n  without data in the SYN {:.1} ms: {saved:.1} ms saved, or {:.2} round trips of \
                 {round_trip} ms",
        times.early,
        times.fast.len(),
        milliseconds(fast),
        milliseconds(plain),
        saved / round_trip,
    ))
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
