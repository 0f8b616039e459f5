//! Our counters beside the kernel's.

use std::time::Duration;

use tfo_common::counters::Counter;
use tokio::time::sleep;

use super::{Namespace, NamespaceError, Snapshot};
use crate::kernel::netstat::KernelCounters;

/// How often, and how far apart, counters are compared before a difference is called drift: a SYN is
/// counted here before the kernel counts it.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The mirrored counters beside the kernel's own.
#[derive(Clone, Debug)]
pub struct Drift {
    /// What was counted on all attached interfaces.
    pub ours: Snapshot,
    /// What the kernel counted since interfaces were last attached or detached.
    pub kernel: KernelCounters,
}

impl Drift {
    /// Ours less the kernel's, in the order of [`Counter::MIRRORED`].
    pub fn drift(&self) -> [i64; Counter::MIRRORED.len()] {
        let mut drift = [0; Counter::MIRRORED.len()];
        for (index, counter) in Counter::MIRRORED.into_iter().enumerate() {
            drift[index] = self
                .ours
                .total
                .get(counter)
                .wrapping_sub(self.kernel[index])
                .cast_signed();
        }
        drift
    }
}

impl Namespace {
    /// Looks a few times: what the counters are at the last look, and those that differed at every one.
    ///
    /// # Errors
    ///
    /// As [`Namespace::drift`].
    pub async fn lasting_drift(&self) -> Result<(Drift, Vec<Counter>), NamespaceError> {
        let mut drift = self.drift()?;
        let mut lasting = drift.drift().map(|by| by != 0);
        for _ in 1..LOOKS {
            if !lasting.contains(&true) {
                break;
            }
            sleep(BETWEEN_LOOKS).await;
            drift = self.drift()?;
            for (lasting, by) in lasting.iter_mut().zip(drift.drift()) {
                *lasting &= by != 0;
            }
        }
        let counters = Counter::MIRRORED.into_iter().zip(lasting);
        let lasting = counters.filter_map(|(counter, lasts)| lasts.then_some(counter));
        Ok((drift, lasting.collect()))
    }
}
