//! The suites to run, and how.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::guest::SUITE;
use crate::{
    architecture::Architecture,
    command::{as_root, repository},
    test::{self, Selection},
};

/// The default suites: each feature once, and differences between kernels. All suites would take hours without KVM.
const CHOSEN: [(&str, Option<&str>); 3] = [
    ("kernels", None),
    ("conditions", Some("dropped_before_the_listener")),
    ("conditions", Some("where_kernels_differ")),
];

/// An executable and the tests to run.
pub(super) struct Suite {
    pub(super) executable: PathBuf,
    pub(super) tests: Vec<String>,
}

/// Arguments of each executable: failures are printed at once, since the guest may not complete.
const ARGUMENTS: [&str; 4] = ["--exact", "--test-threads", "1", "--nocapture"];

impl Suite {
    /// Runs the tests on this machine, with what `change` adds to the command, and prints their output; `hear` is called
    /// with each line. Returns whether they passed.
    pub(super) fn run(
        &self,
        change: impl FnOnce(&mut Command),
        mut hear: impl FnMut(&str),
    ) -> Result<bool> {
        let mut command = as_root(&self.executable)?;
        command.args(&self.tests).args(ARGUMENTS);
        command.current_dir(repository().join(test::KERNEL_SUITES));
        change(&mut command);
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child = started.context("cannot start a suite")?;
        let stdout = child.stdout.take().context("a suite has no output")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            hear(&line);
        }
        Ok(child.wait()?.success())
    }
}

/// The suites of these names, or those of [`CHOSEN`].
pub(super) fn chosen(names: &[String], architecture: Option<Architecture>) -> Result<Vec<Suite>> {
    let selected: Vec<_> = names
        .iter()
        .map(|name| match name.split_once('/') {
            Some((suite, filter)) => (suite, Some(filter)),
            None => (name.as_str(), None),
        })
        .collect();
    let asked = if names.is_empty() {
        &CHOSEN
    } else {
        &selected[..]
    };
    let mut suites = Vec::new();
    for (suite, filter) in asked {
        let selected = test::select(&Selection {
            suite: Some((*suite).to_owned()),
            filter: filter.map(str::to_owned),
            architecture,
            ..Selection::default()
        })?;
        suites.extend(selected.into_iter().map(|selected| Suite {
            executable: selected.executable().to_owned(),
            tests: selected.tests().to_vec(),
        }));
    }
    Ok(suites)
}

/// Copies of the executables, so that a build does not change them while a guest runs.
pub(super) fn copies(tfo: &Path, mut suites: Vec<Suite>, into: &Path) -> Result<Vec<Suite>> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into)?;
    let copy = |from: &Path| -> Result<PathBuf> {
        let to = into.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    };
    // The suites look for `tfo` in their own folder.
    copy(tfo)?;
    for suite in &mut suites {
        suite.executable = copy(&suite.executable)?;
    }
    Ok(suites)
}

/// The commands that run every suite, one test at a time, since it is slow.
pub(super) fn commands(suites: &[Suite]) -> String {
    let mut lines = format!(
        "export TFO_PATIENCE=20 TFO_STOCK_KERNEL=1\ncd {}\n",
        repository().join(test::KERNEL_SUITES).display()
    );
    for suite in suites {
        let name = suite.executable.file_stem().unwrap_or_default().display();
        lines += &format!(
            "echo '{} {name}'\n{} {}\n",
            SUITE,
            suite.executable.display(),
            [&suite.tests.join(" "), &ARGUMENTS.join(" ")[..]].join(" ")
        );
    }
    lines
}
