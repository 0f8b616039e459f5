//! Random SYNs to real listeners, with `tfo` on the interface: whatever they are, every mirrored
//! counter has to equal the kernel's.
//!
//! SYNs go in batches, each of which a seed of its own gives again, and which starts with empty queues.
//! Where a batch differs, its SYNs are sent once more, one at a time; what then still differs is cut
//! down to the fewest and shortest SYNs. What does not differ again was a race: between the data path's
//! look at a queue and the kernel's, other SYNs of the batch came in.

mod frames;
mod load;
mod rules;
mod sent;
mod shrink;
mod step;
mod testbed;

use std::fmt;

use anyhow::Result;

pub use self::{
    frames::{Frames, run_frames},
    load::{Load, load},
    step::{Batch, Host, Step},
};
use self::{shrink::shrink, testbed::FuzzTestbed};
use crate::testbed::Tally;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The SYNs that the data path saw; the few frames with other flags are not among them.
    pub syns: u64,
    /// SYNs that the wire lost before the data path.
    pub lost: u64,
    /// Batches that differed when they were sent at speed, and not when sent slowly.
    pub races: u64,
    /// What the kernel counted.
    pub kernel: Tally,
    /// The first batch that differs.
    pub difference: Option<Difference>,
}

/// A batch on which `tfo` and the kernel differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The seed that gives the batch as a run's first.
    pub seed: u64,
    /// The settings and the SYNs that are left of it.
    pub batch: Batch,
    /// The options of each SYN, as sent.
    pub options: Vec<Vec<u8>>,
    /// By how much `tfo` counts more than the kernel.
    pub drift: Tally,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: tfo counts more by {}", self.seed, self.drift)?;
        writeln!(f, "{:?}", self.batch.host)?;
        for (step, options) in self.batch.steps.iter().zip(&self.options) {
            writeln!(f, "{step:?}, options {options:02x?}")?;
        }
        Ok(())
    }
}

/// Sends at least so many SYNs, from batches of `seed`, `seed + 1` and so on. It ends at the first
/// difference. `progress` is called after every batch, with what there is so far.
///
/// # Errors
///
/// Where the wire, the listeners or `tfo` fail.
pub fn run(seed: u64, syns: u64, mut progress: impl FnMut(&Report)) -> Result<Report> {
    let mut testbed = FuzzTestbed::new()?;
    let mut report = Report::default();
    let mut seed = seed;
    while report.syns + report.lost < syns {
        let batch = Batch::random(seed);
        let played = testbed.play(&batch)?;
        report.syns += played.seen;
        report.lost += played.lost;
        if played.drift != Tally::default() {
            report.difference = shrink(&mut testbed, &batch, seed)?;
            if report.difference.is_some() {
                break;
            }
            report.races += 1;
        }
        seed = seed.wrapping_add(1);
        report.kernel = testbed.kernel()?;
        progress(&report);
    }
    Ok(report)
}
