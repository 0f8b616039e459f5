//! The table of kernels in docs/reference.md: kernel by feature, of what the runs said.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Between these lines of docs/reference.md is the table.
const START: &str = "<!-- kernels: `cargo xtask vm --table` writes this -->\n";
const END: &str = "<!-- kernels end -->\n";

/// How the suites begin to say what a feature comes to; its name and the word follow.
const FEATURE: &str = "tfo: feature: ";

/// What one kernel said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// As `uname -r` has it.
    release: String,
    /// Names and what they come to, in the order in which they came.
    found: Vec<(String, String)>,
}

impl Features {
    pub(super) fn of(release: &str) -> Self {
        Self {
            release: release.to_owned(),
            found: Vec::new(),
        }
    }

    /// Takes in a line that a suite wrote.
    pub(super) fn read(&mut self, line: &str) {
        // The test's name may stand before it.
        let feature = line.split_once(FEATURE);
        if let Some((name, what)) = feature.and_then(|(_, feature)| feature.split_once(": ")) {
            self.found.push((name.into(), what.trim_end().into()));
        }
    }

    /// Keeps it for the table.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let mut text = format!("{}\n", self.release);
        for (name, what) in &self.found {
            text += &format!("{FEATURE}{name}: {what}\n");
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What was kept of the last run that passed.
    pub(super) fn saved(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            let path = path.display();
            format!(
                "{path} is missing: run `cargo xtask vm` first, which keeps there what a run found"
            )
        })?;
        let mut lines = text.lines();
        let mut features = Self::of(lines.next().unwrap_or_default());
        lines.for_each(|line| features.read(line));
        Ok(features)
    }

    fn get(&self, name: &str) -> &str {
        let found = self.found.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, what)| what)
    }
}

/// The table of these kernels, in the order of the last one's features.
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

/// Puts the table of these kernels where the file has its marks.
pub(super) fn write(kernels: &[Features], path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let text = replaced(&text, &table(kernels))
        .with_context(|| format!("{} has no place for the table of kernels", path.display()))?;
    Ok(fs::write(path, text)?)
}

/// The text with another table between the marks, if it has them.
fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{START}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_become_columns() {
        let mut old = Features::of("6.1");
        let mut new = Features::of("6.12");
        old.read("test traffic_control ... tfo: feature: traffic control: clsact filter\r");
        new.read("tfo: feature: traffic control: TCX link");
        new.read("tfo: feature: rotation: yes");
        new.read("test result: ok. 2 passed");
        let text = format!("a\n{START}old\n{END}b\n");
        let expected = format!(
            "a\n{START}\n| feature | 6.1 | 6.12 |\n|---|---|---|\n\
             | traffic control | clsact filter | TCX link |\n| rotation |  | yes |\n\n{END}b\n"
        );
        assert_eq!(replaced(&text, &table(&[old, new])), Some(expected));
        assert_eq!(replaced("a\nb\n", ""), None);
    }
}
