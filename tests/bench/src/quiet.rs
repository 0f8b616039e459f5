//! The load of the machine: load average, and time that the hypervisor took.

use std::fs;

use anyhow::{Context as _, Result};

use crate::report::Quiet;

/// The machine before the measurements.
pub(crate) struct Before {
    load: f64,
    ticks: [u64; 2],
}

impl Before {
    pub(crate) fn read() -> Result<Self> {
        Ok(Self {
            load: load()?,
            ticks: ticks()?,
        })
    }

    /// Returns the figures from the reading until now.
    pub(crate) fn until_now(&self) -> Result<Quiet> {
        let [stolen, all] = ticks()?;
        Ok(Quiet {
            load: [self.load, load()?],
            stolen: share(
                stolen.saturating_sub(self.ticks[0]),
                all.saturating_sub(self.ticks[1]),
            ),
        })
    }
}

/// 0 of nothing.
fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// The load average of one minute.
fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let word = text.split_whitespace().next();
    let load = word.and_then(|word| word.parse().ok());
    load.context("/proc/loadavg has no load average")
}

/// Ticks that the hypervisor took, and all, of all CPUs.
fn ticks() -> Result<[u64; 2]> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    of_all_cpus(&text).context("/proc/stat has no line of all CPUs")
}

fn of_all_cpus(stat: &str) -> Option<[u64; 2]> {
    /// user, nice, system, idle, iowait, irq, softirq, steal; guests' time, which follows, is in the first two.
    const COLUMNS: usize = 8;
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns = line.split_whitespace().take(COLUMNS).map(str::parse);
    let columns: Vec<u64> = columns.collect::<Result<_, _>>().ok()?;
    (columns.len() == COLUMNS).then(|| [columns[COLUMNS - 1], columns.iter().sum()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hypervisors_share_is_of_all_time_but_guests() {
        let stat = "cpu  10 20 30 40 50 60 70 80 1000 2000\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let [stolen, all] = of_all_cpus(stat).expect("a line of all CPUs");
        assert_eq!([stolen, all], [80, 360]);
        assert!(share(stolen, all) > 0.22 && share(stolen, all) < 0.23);
        assert_eq!(of_all_cpus("cpu0 1 1 1 1 1 1 1 1 0 0\n"), None);
        assert_eq!(of_all_cpus("cpu  1 2 3\n"), None);
        assert!(share(0, 0) < 1e-9);
    }

    #[test]
    fn this_machine_can_be_read() {
        let quiet = Before::read().and_then(|before| before.until_now());
        let quiet = quiet.expect("/proc has both files");
        assert!(quiet.load[1] >= 0.0 && (0.0..=1.0).contains(&quiet.stolen));
    }
}
