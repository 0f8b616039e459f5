//! The tables of kernels in docs/reference.md, one for each architecture and one of drivers: features by kernel, as the
//! suites report them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::debian::series;
use crate::architecture::Architecture;

/// The line below a table in docs/reference.md.
const END: &str = "<!-- kernels end -->\n";

/// The line above the table that these arguments of the task write.
fn start(arguments: &str) -> String {
    format!("<!-- kernels: `cargo xtask vm {arguments} --table` writes this -->\n")
}

/// The start of a line that reports a feature. `NAME: RESULT` follows.
const FEATURE: &str = "tfo: feature: ";

/// The features of one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// The output of `uname -r`.
    release: String,
    /// Names and results, in the order of the run.
    found: Vec<(String, String)>,
}

impl Features {
    pub(super) fn of(release: &str) -> Self {
        Self {
            release: release.to_owned(),
            found: Vec::new(),
        }
    }

    /// Adds the feature in a line of a suite's output, if there is one.
    pub(super) fn read(&mut self, line: &str) {
        // The test's name may precede it.
        let feature = line.split_once(FEATURE);
        if let Some((name, what)) = feature.and_then(|(_, feature)| feature.split_once(": ")) {
            self.found.push((name.into(), what.trim_end().into()));
        }
    }

    /// Writes the features to a file.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let mut text = format!("{}\n", self.release);
        for (name, what) in &self.found {
            text += &format!("{FEATURE}{name}: {what}\n");
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a file of [`Features::save`].
    fn saved(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            let path = path.display();
            format!("{path} is missing: run `cargo xtask vm`, which writes it")
        })?;
        let mut lines = text.lines();
        let mut features = Self::of(lines.next().unwrap_or_default());
        lines.for_each(|line| features.read(line));
        Ok(features)
    }

    /// Reads the files of this name of each of the default series.
    pub(super) fn all_saved(
        architecture: Architecture,
        folder: &Path,
        name: &str,
    ) -> Result<Vec<Self>> {
        let series = series(architecture).iter();
        series
            .map(|series| Self::saved(&folder.join(series).join(name)))
            .collect()
    }

    /// The names of the features that this kernel has and `newer` does not report.
    fn missing_in<'a>(&'a self, newer: &Self) -> Vec<&'a str> {
        let names = self.found.iter().map(|(name, _)| name.as_str());
        names.filter(|name| newer.get(name).is_empty()).collect()
    }

    fn get(&self, name: &str) -> &str {
        let found = self.found.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, what)| what)
    }
}

/// The table of these kernels. Rows are in the last kernel's order.
fn table(kernels: &[Features]) -> String {
    let mut header = "| feature |".to_owned();
    let mut rule = "|---|".to_owned();
    for kernel in kernels {
        header += &format!(" {} |", kernel.release);
        rule += "---|";
    }
    let mut lines = format!("{header}\n{rule}\n");
    let names = kernels.last().map_or(&[][..], |kernel| &kernel.found);
    for (name, _) in names {
        let row = kernels
            .iter()
            .map(|kernel| format!(" {} |", kernel.get(name)));
        lines += &format!("| {name} |{}\n", row.collect::<String>());
    }
    lines
}

/// Replaces the table in a file that these arguments of the task write. A later kernel without a feature of an earlier one
/// is an error.
pub(super) fn write(arguments: &str, kernels: &[Features], path: &Path) -> Result<()> {
    for (old, new) in kernels.iter().zip(kernels.iter().skip(1)) {
        let missing = old.missing_in(new).join(", ");
        let (old, new) = (&old.release, &new.release);
        ensure!(
            missing.is_empty(),
            "Linux {new} does not report what Linux {old} does: {missing}"
        );
    }
    let text = fs::read_to_string(path)?;
    let text = replaced(&text, &start(arguments), &table(kernels)).with_context(|| {
        let path = path.display();
        format!("{path} has no marks for the table of `cargo xtask vm {arguments}`")
    })?;
    Ok(fs::write(path, text)?)
}

/// The text with `table` between the marks; `None` if it has no marks.
fn replaced(text: &str, start: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(start)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{start}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::repository;

    #[test]
    fn features_become_columns() {
        let mut old = Features::of("6.1");
        let mut new = Features::of("6.12");
        old.read("test traffic_control ... tfo: feature: traffic control: clsact filter\r");
        new.read("tfo: feature: traffic control: TCX link");
        new.read("tfo: feature: rotation: yes");
        new.read("test result: ok. 2 passed");
        assert!(old.missing_in(&new).is_empty());
        assert_eq!(new.missing_in(&old), ["rotation"]);
        let start = start("--arch amd64");
        let text = format!("a\n{start}old\n{END}b\n");
        let expected = format!(
            "a\n{start}\n| feature | 6.1 | 6.12 |\n|---|---|---|\n\
             | traffic control | clsact filter | TCX link |\n| rotation |  | yes |\n\n{END}b\n"
        );
        assert_eq!(replaced(&text, &start, &table(&[old, new])), Some(expected));
        assert_eq!(replaced("a\nb\n", &start, ""), None);
    }

    /// A feature that a kernel brought, and a later one does not report, is a mistake of the run: nothing is written.
    #[test]
    fn a_later_kernel_has_what_an_earlier_one_has() {
        let kernel = |release: &str, features: &[&str]| {
            let mut kernel = Features::of(release);
            for name in features {
                kernel.read(&format!("tfo: feature: {name}: yes"));
            }
            kernel
        };
        let path = repository().join("target/xtask-tests/kernels.md");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let marks = format!("{}{END}", start("--arch amd64"));
        fs::write(&path, &marks).unwrap();
        let old = || kernel("6.1", &["rotation"]);
        let middle = || kernel("6.6", &["rotation", "TCX"]);
        let lacking = [old(), middle(), kernel("6.12", &["rotation"])];
        let refused = write("--arch amd64", &lacking, &path).unwrap_err();
        let expected = "Linux 6.12 does not report what Linux 6.6 does: TCX";
        assert_eq!(refused.to_string(), expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), marks);
        write("--arch amd64", &[old(), middle()], &path).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.contains("| TCX |  | yes |"), "{written}");
    }
}
