//! What a long task does at present, and the time of each of its steps.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc`: `USER_HZ`, which is 100 on all of Linux's architectures but Alpha.
const TICKS: f32 = 100.0;

/// Runs one step. Prints its name before, and its wall and CPU time after.
///
/// # Errors
///
/// The step failed; its name is in the chain.
pub(crate) fn step(name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("tfo: {name}");
    let start = Instant::now();
    let cpu = cpu_seconds();
    step().context(name)?;
    println!(
        "tfo: {name}: {:.1} s, {:.1} s of CPU",
        start.elapsed().as_secs_f32(),
        cpu_seconds() - cpu
    );
    Ok(())
}

/// Prints the present action.
pub(crate) fn progress(what: &str) {
    println!("tfo: {what}");
}

/// CPU seconds of this process and of its children that have ended.
fn cpu_seconds() -> f32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    ticks(&stat).unwrap_or(0.0) / TICKS
}

/// The sum of utime, stime, cutime and cstime: fields 14 to 17 of proc(5)'s `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<f32> {
    // Field 2, the program's name, is in parentheses and may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4);
    times.map(|ticks| ticks.parse::<f32>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fields_are_summed() {
        let stat = "1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 10 20 300 4000 20 0 1";
        assert_eq!(ticks(stat), Some(4330.0));
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_failed_step_is_named() {
        let failed = step("step", || anyhow::bail!("cause")).unwrap_err();
        assert_eq!(format!("{failed:#}"), "step: cause");
        assert!(step("step", || Ok(())).is_ok());
    }
}
