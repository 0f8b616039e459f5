//! `cargo xtask bench`: what the data path costs, and what Fast Open saves.

use std::{ffi::OsString, fs, process::Command, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, output, repository, status},
    setup,
};

/// What the data path is held against, and the packages of Debian that they come from.
const PEERS: [(&str, &str); 3] = [
    ("clang", "clang"),
    ("nft", "nftables"),
    ("xdp-filter", "xdp-tools"),
];

/// Where the report goes; a quick one does not take the place of a whole one.
const REPORT: &str = "docs/bench";
const QUICK_REPORT: &str = "target/bench";

/// Builds with optimisations, and runs the benchmark as root.
///
/// # Errors
///
/// The build fails, or there is no way to be root.
pub fn bench(args: &[OsString]) -> Result<ExitCode> {
    // Without them the report says what is missing.
    for peer in PEERS {
        if let Err(error) = setup::programs(&[peer]) {
            eprintln!("tfo: {error:#}");
        }
    }
    build::tfo(Profile::Release)?;
    let bench = build::binary("tfo-bench", "tfo-bench", Profile::Release)?;
    let quick = args.iter().any(|arg| arg == "--quick");
    let out = repository().join(if quick { QUICK_REPORT } else { REPORT });
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut command = as_root(bench)?;
    command.args(["--commit", &commit(), "--date", &today()]);
    command.arg("--out").arg(out).args(args);
    Ok(exit_code(status(&mut command)?))
}

/// The commit that was built, with a word where files have changed since.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(repository());
    output(&mut git).unwrap_or_else(|| "unknown".into())
}

fn today() -> String {
    output(Command::new("date").args(["--utc", "+%F"])).unwrap_or_else(|| "unknown".into())
}
