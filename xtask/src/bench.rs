//! `cargo xtask bench`: the cost of the data path, and the time that Fast Open saves.

use std::{ffi::OsString, fs, process::Command, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, output, repository, status},
    setup,
};

/// Programs that the benchmark compares with, and their Debian packages.
const PEERS: [(&str, &str); 3] = [
    ("clang", "clang"),
    ("nft", "nftables"),
    ("xdp-filter", "xdp-tools"),
];

/// The folders of a full and of a quick report.
const REPORT: &str = "docs/bench";
const QUICK_REPORT: &str = "target/bench";

/// Builds the release profile and runs the benchmark as root.
///
/// # Errors
///
/// The build fails, or root cannot be had.
pub fn bench(args: &[OsString]) -> Result<ExitCode> {
    // The benchmark runs without them, and its report names what is missing.
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

/// The commit that is built, with `-dirty` if files differ from it.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(repository());
    output(&mut git).unwrap_or_else(|| "unknown".into())
}

fn today() -> String {
    output(Command::new("date").args(["--utc", "+%F"])).unwrap_or_else(|| "unknown".into())
}
