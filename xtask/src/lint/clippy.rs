//! clippy, for this host and for the BPF target.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, repository, succeed, target},
    setup,
    toolchain::{self, Toolchain, rustup},
};

/// Lints all crates and their tests, the eBPF program as an empty program of this host.
pub(super) fn workspace() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets"]);
    succeed(deny_warnings(&mut command))
}

/// Lints the controller with each set of its features. Dev-dependencies turn on some of them in [`workspace`].
pub(super) fn features() -> Result<()> {
    for features in feature_sets("tfo-userspace")? {
        let mut command = cargo();
        command.args(["clippy", "--package", "tfo-userspace", "--lib", "--bins"]);
        command.args(["--features", &features]);
        succeed(deny_warnings(&mut command)).with_context(|| format!("features [{features}]"))?;
    }
    Ok(())
}

/// Lints the code for the BPF target with the toolchain that builds it, with each set of its features.
pub(super) fn bpf() -> Result<()> {
    let toolchain = toolchain::find()?;
    setup::clippy(&toolchain)?;
    for features in feature_sets("tfo-ebpf")? {
        let mut command = bpf_clippy(&toolchain)?;
        command.args(["--package", "tfo-ebpf", "--bins"]);
        command.args(["--features", &features]);
        succeed(deny_warnings(&mut command)).with_context(|| format!("features [{features}]"))?;
    }
    let mut command = bpf_clippy(&toolchain)?;
    command.args(["--package", "tfo-common", "--lib"]);
    succeed(deny_warnings(&mut command))
}

/// `cargo clippy` for the BPF target, as aya-build calls `cargo build` for it.
fn bpf_clippy(toolchain: &Toolchain) -> Result<Command> {
    const TARGET: &str = if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    };
    let mut command = rustup(&["run", &toolchain.name, "cargo", "clippy", "--release"]);
    command.args(["--target", TARGET, "-Z", "build-std=core"]);
    // `-Z build-std` is unstable, and the toolchain need not be a nightly.
    command.env("RUSTC_BOOTSTRAP", "1");
    // The object's build keeps its dependencies in the same folder.
    command.env("CARGO_TARGET_DIR", target()?.join("ebpf"));
    for outer in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(outer);
    }
    command.current_dir(repository());
    Ok(command)
}

/// Every set of a package's features, as `--features` takes it.
fn feature_sets(package: &str) -> Result<Vec<String>> {
    let manifest = repository().join(package).join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    Ok(power_set(&features_in(&text)))
}

/// The names in the manifest's table `[features]`, one a line.
fn features_in(manifest: &str) -> Vec<&str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .collect()
}

/// The subsets of `names`, each joined by commas.
fn power_set(names: &[&str]) -> Vec<String> {
    let mut sets = vec![Vec::new()];
    for name in names {
        let with_name = sets
            .clone()
            .into_iter()
            .map(|set| [set, vec![*name]].concat());
        sets.extend(with_name.collect::<Vec<_>>());
    }
    sets.iter().map(|set| set.join(",")).collect()
}

fn deny_warnings(command: &mut Command) -> &mut Command {
    command.args(["--", "-D", "warnings"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[features]\n# Why.\na = [\"dep:y\"]\nb-c = []\n\n[lints]\nw = 1\n";
        assert_eq!(features_in(manifest), ["a", "b-c"]);
        assert!(features_in("[lints]\nworkspace = true\n").is_empty());
        assert!(
            feature_sets("tfo-ebpf")
                .unwrap()
                .contains(&"trace".to_owned())
        );
    }

    #[test]
    fn all_sets_are_linted() {
        assert_eq!(power_set(&[]), [""]);
        assert_eq!(power_set(&["a", "b"]), ["", "a", "b", "a,b"]);
    }
}
