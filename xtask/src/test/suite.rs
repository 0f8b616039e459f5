//! Test binaries, the tests in them, and the selection.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{architecture::Architecture, build::cargo_for};

/// The package of the kernel suites. Its binaries need root; a suite is a top-level module of one.
pub const KERNEL_SUITES: &str = "tests/suites";

/// The tests to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A package, a test binary, or a top-level module of a kernel suite's binary; all if `None`.
    pub suite: Option<String>,
    /// A part of the tests' names.
    pub filter: Option<String>,
    /// Arguments of the test binaries, such as `--nocapture` and `--ignored`.
    pub args: Vec<OsString>,
    /// The architecture to build them for; this machine's if `None`.
    pub architecture: Option<Architecture>,
}

/// A test binary with the selected tests.
#[derive(Clone, Debug)]
pub struct Selected {
    binary: Binary,
    /// The tests to run, by name.
    tests: Vec<String>,
}

/// A test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binary {
    /// The name of cargo's target.
    name: String,
    executable: PathBuf,
    /// The folder of its package, where cargo runs it.
    folder: PathBuf,
}

impl Selected {
    /// The executable.
    pub fn executable(&self) -> &Path {
        &self.binary.executable
    }

    /// The folder of its package, where it runs.
    pub fn folder(&self) -> &Path {
        &self.binary.folder
    }

    /// The names of the tests to run.
    pub fn tests(&self) -> &[String] {
        &self.tests
    }

    /// `true` if the tests need root: those in [`KERNEL_SUITES`].
    pub fn needs_root(&self) -> bool {
        self.binary.is_privileged()
    }

    /// The suite of a test, and the test's name in it, as `cargo xtask test SUITE FILTER` takes them.
    pub(super) fn name<'a>(&'a self, test: &'a str) -> (&'a str, &'a str) {
        let module = self.needs_root().then(|| test.split_once("::"));
        module.flatten().unwrap_or((&self.binary.name, test))
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binary { name, folder, .. } = &self.binary;
        let package = folder.file_name().unwrap_or_default().display();
        let (count, plural) = match self.tests.len() {
            1 => (1, ""),
            count => (count, "s"),
        };
        write!(f, "{package}, {name}: {count} test{plural}")?;
        f.write_str(if self.needs_root() { ", as root" } else { "" })
    }
}

impl Binary {
    fn is_privileged(&self) -> bool {
        self.folder.ends_with(KERNEL_SUITES)
    }

    fn package(&self) -> &str {
        let folder = self.folder.file_name().and_then(|name| name.to_str());
        folder.unwrap_or_default()
    }

    /// The tests that belong to the suite of this name.
    fn select<'a>(&self, suite: &str, tests: &'a [String]) -> Vec<&'a String> {
        if suite == self.name || suite == self.package() {
            return tests.iter().collect();
        }
        let belongs = |test: &&String| {
            self.is_privileged()
                && test
                    .strip_prefix(suite)
                    .is_some_and(|rest| rest.starts_with("::"))
        };
        tests.iter().filter(belongs).collect()
    }

    /// The names that select tests of this binary.
    fn suites(&self, tests: &[String]) -> BTreeSet<String> {
        let own = if self.is_privileged() {
            &self.name
        } else {
            self.package()
        };
        let modules = tests.iter().filter_map(|test| test.split_once("::"));
        let modules = modules.filter(|_| self.is_privileged());
        modules
            .map(|(module, _)| module)
            .chain([own])
            .map(str::to_owned)
            .collect()
    }

    /// All tests; with `--ignored` in the arguments, the ignored ones.
    fn list(&self, architecture: Option<Architecture>, args: &[OsString]) -> Result<Vec<String>> {
        let mut command = match architecture {
            Some(architecture) => architecture.program(&self.executable)?,
            None => Command::new(&self.executable),
        };
        command.args(["--list", "--format", "terse"]).args(args);
        let listed = command.output().with_context(|| self.name.clone())?;
        ensure!(
            listed.status.success(),
            "{} does not list its tests: {}",
            self.executable.display(),
            String::from_utf8_lossy(&listed.stderr)
        );
        let lines = String::from_utf8_lossy(&listed.stdout);
        let tests = lines.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(tests.map(str::to_owned).collect())
    }
}

/// Builds all tests, and selects the requested ones.
///
/// # Errors
///
/// The build fails, or no test matches: the error then names all suites.
pub fn select(selection: &Selection) -> Result<Vec<Selected>> {
    let mut suites = BTreeSet::new();
    let mut selected = Vec::new();
    for binary in build(selection.architecture)? {
        let all = binary.list(selection.architecture, &selection.args)?;
        suites.extend(binary.suites(&all));
        let tests = match &selection.suite {
            Some(suite) => binary.select(suite, &all),
            None => all.iter().collect(),
        };
        let filter = selection.filter.as_deref().unwrap_or_default();
        let tests = tests.into_iter().filter(|test| test.contains(filter));
        let tests: Vec<_> = tests.cloned().collect();
        if !tests.is_empty() {
            selected.push(Selected { binary, tests });
        }
    }
    if selected.is_empty() {
        let suite = selection.suite.as_deref().unwrap_or("any suite");
        let asked = match &selection.filter {
            Some(filter) => format!("test with {filter:?} in its name in {suite}"),
            None => format!("suite {suite:?} with tests in it"),
        };
        let suites: Vec<_> = suites.into_iter().collect();
        bail!("there is no {asked}; the suites are {}", suites.join(", "));
    }
    Ok(selected)
}

/// Builds all tests. Binaries that need no root come first.
fn build(architecture: Option<Architecture>) -> Result<Vec<Binary>> {
    // Always all packages, so that no dependency is built for two sets of features.
    let mut command = cargo_for(architecture, "test")?;
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let built = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(built.status.success(), "the tests cannot be built");
    let lines = String::from_utf8_lossy(&built.stdout);
    let mut binaries: Vec<_> = lines.lines().filter_map(binary).collect();
    binaries.sort_by_key(|binary| (binary.is_privileged(), binary.executable.clone()));
    Ok(binaries)
}

/// The test binary in one of cargo's messages, if there is one.
fn binary(message: &str) -> Option<Binary> {
    let text = |from: &str, field: &str| {
        let (_, value) = from.split_once(&format!("\"{field}\":\""))?;
        Some(value.split_once('"')?.0.to_owned())
    };
    let (_, profile) = message.split_once("\"profile\":")?;
    let (profile, _) = profile.split_once('}')?;
    if !profile.contains("\"test\":true") {
        return None;
    }
    let (_, target) = message.split_once("\"target\":")?;
    Some(Binary {
        name: text(target, "name")?,
        executable: text(message, "executable")?.into(),
        folder: Path::new(&text(message, "manifest_path")?)
            .parent()?
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///tfo/tests/suites#tfo-suites@0.2.0","manifest_path":"/tfo/tests/suites/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"network","src_path":"/tfo/tests/suites/tests/network/main.rs","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"1","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":true},"features":[],"filenames":["/tfo/target/debug/deps/network-5fe6"],"executable":"/tfo/target/debug/deps/network-5fe6","fresh":false}"#;

    #[test]
    fn test_binaries_are_found_in_messages() {
        let found = binary(MESSAGE).unwrap();
        assert_eq!(found.name, "network");
        assert_eq!(
            found.executable,
            Path::new("/tfo/target/debug/deps/network-5fe6")
        );
        assert_eq!(found.folder, Path::new("/tfo/tests/suites"));
        assert!(found.is_privileged());
        let program = MESSAGE.replace("true,\"test\":true}", "true,\"test\":false}");
        assert_eq!(binary(&program), None);
        let library = MESSAGE.replace(
            "\"executable\":\"/tfo/target/debug/deps/network-5fe6\"",
            "\"executable\":null",
        );
        assert_eq!(binary(&library), None);
        assert_eq!(
            binary(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }

    #[test]
    fn suites_are_binaries_packages_and_modules_at_the_top() {
        let kernel = binary(MESSAGE).unwrap();
        let tests = [
            "guard::gate::limits",
            "guard::proof::windows",
            "guardian::x",
        ]
        .map(str::to_owned);
        let of = |binary: &Binary, suite| binary.select(suite, &tests).len();
        assert_eq!(of(&kernel, "network"), 3);
        assert_eq!(of(&kernel, "suites"), 3);
        assert_eq!(of(&kernel, "guard"), 2);
        assert_eq!(of(&kernel, "gate"), 0);
        assert_eq!(
            Vec::from_iter(kernel.suites(&tests)),
            ["guard", "guardian", "network"]
        );
        let unit = Binary {
            folder: "/tfo/tfo-common".into(),
            name: "tfo_common".into(),
            ..kernel
        };
        assert_eq!(of(&unit, "tfo-common"), 3);
        assert_eq!(of(&unit, "guard"), 0);
        assert_eq!(Vec::from_iter(unit.suites(&tests)), ["tfo-common"]);
    }
}
