//! Random SYNs to kernel listeners, with `tfo` on the interface: every mirrored counter must equal the kernel's.
//!
//! SYNs are sent in batches. Each batch has its own seed and starts with empty queues. If counters differ after a
//! batch, its SYNs are sent again, one at a time. A difference that persists is shrunk to a minimal batch. A difference
//! that disappears was a race: other SYNs arrived between the data path's read of a queue and the kernel's.

mod foreign;
mod frames;
mod load;
mod rules;
mod sent;
mod shrink;
mod step;
mod testbed;

use anyhow::Result;

pub use self::{
    foreign::Foreign,
    frames::{Frames, run_frames},
    load::{Load, load},
    shrink::Difference,
    step::{Batch, Host, Step},
};
use self::{shrink::shrink, testbed::FuzzTestbed};
use crate::testbed::Tally;

/// Result of [`run`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// SYNs that the data path saw, without the few frames with other flags.
    pub syns: u64,
    /// SYNs lost on the veth pair, before the data path.
    pub lost: u64,
    /// Batches that differed at full speed, but not one SYN at a time.
    pub races: u64,
    /// The kernel's counters.
    pub kernel: Tally,
    /// The first batch that differs one SYN at a time, shrunk.
    pub difference: Option<Difference>,
}

/// Sends at least `syns` SYNs, in batches with the seeds `seed`, `seed + 1` and so on. Stops at the first difference.
/// Calls `progress` after every batch.
///
/// # Errors
///
/// The veth pair, a listener or `tfo` fails.
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
