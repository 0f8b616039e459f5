//! Random keys, made on this host.

use std::time::Duration;

use crate::{
    kernel::clock::Now,
    keys::{
        schedule::{KeyPlan, RandomSchedule},
        source::{Authority, KeySource, SourceStart},
    },
    model::{KeyPair, random_key},
};

/// Random keys for this host alone.
///
/// Attaching gives a kernel without a key a random one, so that there is a pair to go on from. Should there be none
/// all the same, the source leaves the kernel's keys as they are.
pub struct RandomSource(Option<RandomSchedule>);

impl RandomSource {
    /// `interval` is the time for which a key is primary.
    pub fn new(interval: Duration, start: SourceStart) -> Self {
        let SourceStart {
            in_force, since, ..
        } = start;
        Self(in_force.map(|plan| RandomSchedule::resume(interval, plan, since)))
    }
}

impl KeySource for RandomSource {
    fn name(&self) -> &'static str {
        "random"
    }

    fn plan(&self, now: Now, kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String> {
        match &self.0 {
            Some(schedule) => schedule
                .plan(now, random_key)
                .map(Some)
                .map_err(|error| format!("cannot make a random key: getrandom(2): {error}")),
            None => Ok(kernel.map(KeyPlan::unstaged)),
        }
    }

    fn installed(&mut self, plan: &KeyPlan, now: Now) {
        if let Some(schedule) = &mut self.0 {
            schedule.installed(plan, now);
        }
    }

    fn next_change(&self, _now: Now) -> Option<Duration> {
        self.0.as_ref().map(RandomSchedule::due)
    }

    /// A key of `tfo keys rotate` is as random as one of this source.
    fn authority(&self) -> Authority {
        match self.0 {
            Some(_) => Authority::Tfo,
            None => Authority::Anyone,
        }
    }

    fn adopt(&mut self, plan: &KeyPlan, now: Now) -> bool {
        self.installed(plan, now);
        true
    }
}
