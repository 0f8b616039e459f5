//! Output files.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    thread,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    markdown, plot,
    report::{Machine, Report},
};

/// Checks that `kernel.bpf_stats_enabled` is off: reading the clock around every run costs more than most programs.
pub(crate) fn ensure_undisturbed() -> Result<()> {
    let enabled = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap_or_default();
    ensure!(
        enabled.trim() != "1",
        "kernel.bpf_stats_enabled is 1, which adds two clock reads to every run of a program: \
                 sysctl -w kernel.bpf_stats_enabled=0"
    );
    Ok(())
}

/// Reads the machine's description from `/proc`.
pub(crate) fn machine(commit: &str, date: &str, quick: bool) -> Result<Machine> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    Ok(Machine {
        cpu: cpu.trim().into(),
        cores: thread::available_parallelism()?.get(),
        kernel: kernel.trim().into(),
        compiled: jit.as_deref().map(str::trim).ok() != Some("0"),
        commit: commit.into(),
        date: date.into(),
        quick,
        quiet: None,
    })
}

/// Writes all files into `folder`, owned by the folder's owner.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    let owner = fs::metadata(folder);
    let owner = owner.with_context(|| format!("cannot write into {}", folder.display()))?;
    let mut files = plots(report, folder)?;
    for (name, text) in [
        ("report.json", serde_json::to_string_pretty(report)? + "\n"),
        ("report.md", markdown::page(report)),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        files.push(name.into());
    }
    for file in files {
        chown(folder.join(file), Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Draws all plots. Returns their file names.
fn plots(report: &Report, folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for section in &report.sections {
        for plot in &section.plots {
            plot::draw(&folder.join(&plot.file), plot, &section.tables)?;
            files.push(plot.file.clone());
        }
    }
    Ok(files)
}
