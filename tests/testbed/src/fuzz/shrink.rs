//! Shrinking of a batch to the fewest and shortest SYNs that still differ.

use std::fmt;

use anyhow::Result;

use super::{step::Batch, testbed::FuzzTestbed};
use crate::testbed::Tally;

/// A minimal batch for which the counters of `tfo` and of the kernel differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Seed that reproduces the whole batch as the first one of [`super::run`].
    pub seed: u64,
    /// The shrunk batch.
    pub batch: Batch,
    /// TCP options of each SYN, as sent.
    pub options: Vec<Vec<u8>>,
    /// Counters of `tfo` minus the kernel's.
    pub drift: Tally,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: tfo minus kernel: {}", self.seed, self.drift)?;
        writeln!(f, "{:?}", self.batch.host)?;
        for (step, options) in self.batch.steps.iter().zip(&self.options) {
            writeln!(f, "{step:?}, options {options:02x?}")?;
        }
        Ok(())
    }
}

/// Shrinks `batch`. `None` if it does not differ when its SYNs are sent one at a time.
pub(super) fn shrink(
    testbed: &mut FuzzTestbed,
    batch: &Batch,
    seed: u64,
) -> Result<Option<Difference>> {
    let mut batch = batch.clone();
    let Some(index) = testbed.first_difference(&batch)? else {
        return Ok(None);
    };
    batch.steps.truncate(index + 1);
    let mut without = batch.clone();
    without.host.policy = None;
    if differs(testbed, &without)? {
        batch = without;
    }
    remove_steps(testbed, &mut batch)?;
    simplify_steps(testbed, &mut batch)?;
    let (drift, options) = testbed.play_slowly(&batch)?;
    Ok(Some(Difference {
        seed,
        batch,
        options,
        drift,
    }))
}

fn differs(testbed: &mut FuzzTestbed, batch: &Batch) -> Result<bool> {
    Ok(testbed.play_slowly(batch)?.0 != Tally::default())
}

/// Removes SYNs before the last one: halves first, then smaller parts.
fn remove_steps(testbed: &mut FuzzTestbed, batch: &mut Batch) -> Result<()> {
    let mut part = batch.steps.len();
    while part > 0 {
        let mut end = batch.steps.len() - 1;
        while end > 0 {
            let start = end.saturating_sub(part);
            let mut smaller = batch.clone();
            smaller.steps.drain(start..end);
            if differs(testbed, &smaller)? {
                *batch = smaller;
            }
            end = start;
        }
        part /= 2;
    }
    Ok(())
}

/// Simplifies every SYN to a fixed point.
fn simplify_steps(testbed: &mut FuzzTestbed, batch: &mut Batch) -> Result<()> {
    for index in 0..batch.steps.len() {
        'again: loop {
            for step in batch.steps[index].simpler() {
                let mut simpler = batch.clone();
                simpler.steps[index] = step;
                if differs(testbed, &simpler)? {
                    *batch = simpler;
                    continue 'again;
                }
            }
            break;
        }
    }
    Ok(())
}
