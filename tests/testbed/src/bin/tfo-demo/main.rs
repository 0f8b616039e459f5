//! Demo: a client and a server with a delay between them, `tfo` on the server's interface, and TCP Fast Open
//! connections across a cookie request, a key rotation and a replaced key.
//!
//! Ends with the counters of `tfo` next to the kernel's. Exit status: 0 if they are equal, 1 if a step fails, 3 if the
//! counters differ.

mod report;
mod script;
mod signals;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use rustix::process::geteuid;

fn main() -> ExitCode {
    match demonstrate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("tfo-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo. `true` if the counters of `tfo` and of the kernel are equal.
fn demonstrate() -> Result<bool> {
    ensure!(
        geteuid().is_root(),
        "creating network namespaces and attaching XDP programs needs root: run it as root"
    );
    signals::listen()?;
    let (testbed, times) = script::play()?;
    let equal = report::counters(&testbed)?;
    report::times(&testbed, &times)?;
    Ok(equal)
}
