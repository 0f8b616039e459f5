//! The time from each artefact's file to the first answer of `tfo demo`, as the checks note it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// The checks append a line for each artefact: its name, and the seconds from its file until it was installed and until
/// `tfo demo` had compared the counters.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("times")
}

/// Forgets an earlier run.
pub(super) fn clear(folder: &Path) -> Result<()> {
    Ok(fs::write(file(folder), "")?)
}

/// Notes what a check did without a script.
pub(super) fn note(
    folder: &Path,
    name: &str,
    installed: Duration,
    answered: Duration,
) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(file(folder))?;
    let (installed, answered) = (installed.as_secs_f32(), answered.as_secs_f32());
    Ok(writeln!(file, "{name} {installed:.1} {answered:.1}")?)
}

/// The table of docs/install.md. `artefacts` are names with their files.
pub(super) fn table(folder: &Path, artefacts: &[(&str, &Path)]) -> Result<String> {
    let mut sizes = Vec::new();
    for (name, file) in artefacts {
        sizes.push((*name, fs::metadata(file)?.len()));
    }
    rows(&fs::read_to_string(file(folder))?, &sizes)
}

fn rows(times: &str, sizes: &[(&str, u64)]) -> Result<String> {
    let mut table = String::from("| artefact | MiB | installed after s | first answer after s |\n");
    table += "|---|---|---|---|\n";
    for (name, size) in sizes {
        let mut lines = times.lines().map(|line| line.split(' '));
        let mut line = lines
            .find(|line| line.clone().next() == Some(name))
            .with_context(|| format!("the check of {name} noted no time"))?;
        let mut next = || line.next().unwrap_or_default();
        let (name, installed, answered) = (next(), next(), next());
        // Rounded up.
        let tenths = (size * 10).div_ceil(1 << 20);
        let (mebibytes, tenth) = (tenths / 10, tenths % 10);
        table += &format!("| {name} | {mebibytes}.{tenth} | {installed} | {answered} |\n");
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_artefact_has_a_row() {
        let times = "deb 0.5 2.0\nimage 1.0 3.1\n";
        let table = rows(times, &[("image", 3 << 19), ("deb", 1 << 20)]).unwrap();
        let last: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            last,
            ["| image | 1.5 | 1.0 | 3.1 |", "| deb | 1.0 | 0.5 | 2.0 |"]
        );
        let missing = rows(times, &[("rpm", 1)]).unwrap_err().to_string();
        assert_eq!(missing, "the check of rpm noted no time");
    }
}
