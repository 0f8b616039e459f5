//! The mirrored counters compared with the kernel's.

use std::time::Duration;

use tfo_common::counters::Counter;
use tokio::time::sleep;

use super::{current::Namespace, error::NamespaceError, state::State};
use crate::{
    datapath::{error::DatapathError, maps::Snapshot},
    kernel::netstat::{self, KernelCounters},
};

/// Comparisons before a difference counts as drift, and the time between them: the data path counts a SYN before
/// the kernel does.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Tries to read both sides at a moment at which neither changes.
const REBASE_TRIES: u32 = 20;

/// The mirrored counters and the kernel's.
#[derive(Clone, Debug)]
pub struct Drift {
    /// Counted on all attached interfaces.
    pub ours: Snapshot,
    /// Counted by the kernel since an interface was last attached or detached.
    pub kernel: KernelCounters,
}

impl Drift {
    /// `ours` less `kernel`, in the order of [`Counter::MIRRORED`].
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
    /// Compares the counters of all attached interfaces with the kernel's, once.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where a counter cannot be read.
    pub fn drift(&self) -> Result<Drift, NamespaceError> {
        if self.pins().interfaces()?.is_empty() {
            return Err(NamespaceError::nothing_attached());
        }
        let ours = self.counters()?;
        Ok(self.compare(ours, netstat::read()?)?)
    }

    /// Compares `ours` with `kernel`, which was to be read after it: the data path counts a SYN first.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the pinned baseline cannot be read.
    pub fn compare(
        &self,
        ours: Snapshot,
        mut kernel: KernelCounters,
    ) -> Result<Drift, DatapathError> {
        for (value, base) in kernel.iter_mut().zip(State::read(self)?.baseline) {
            *value = value.wrapping_sub(base);
        }
        Ok(Drift { ours, kernel })
    }

    /// Compares up to five times. Gives the last comparison, and the counters that differed in all of them.
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

    /// Sets the baseline so that both sides agree now: an interface came or went with its counts.
    pub(crate) fn rebase(&self) -> Result<(), NamespaceError> {
        self.rebase_with(|| Ok(Snapshot::default()))
    }

    /// Leaves the counts of interface `index`, which is to be removed, out of the comparison: what they were ahead or
    /// behind stays. For another namespace than the calling thread's, whose kernel counters cannot be read.
    pub(crate) fn leave_out(&self, index: u32) -> Result<(), DatapathError> {
        let counts = self.counters_of(index).read()?;
        let mut state = State::read(self)?;
        for (base, counter) in state.baseline.iter_mut().zip(Counter::MIRRORED) {
            *base = base.wrapping_add(counts.total.get(counter));
        }
        state.write(self)
    }

    /// As [`Self::rebase`], where `more` reads the counters of an interface that is being attached.
    pub(crate) fn rebase_with(
        &self,
        more: impl Fn() -> Result<Snapshot, DatapathError>,
    ) -> Result<(), NamespaceError> {
        let mut kernel = netstat::read()?;
        let mut ours = self.counters()?;
        ours += more()?;
        // SYNs may arrive during the reads.
        for _ in 0..REBASE_TRIES {
            let now = netstat::read()?;
            if now == kernel {
                break;
            }
            kernel = now;
            ours = self.counters()?;
            ours += more()?;
        }
        let mut state = State::read(self).unwrap_or_default();
        state.baseline = kernel;
        for (base, counter) in state.baseline.iter_mut().zip(Counter::MIRRORED) {
            *base = base.wrapping_sub(ours.total.get(counter));
        }
        Ok(state.write(self)?)
    }
}
