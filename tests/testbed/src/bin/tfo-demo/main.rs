//! The demonstration: a client and a server a few milliseconds apart, `tfo` on the server's interface,
//! and real TCP Fast Open connections through requests, a rotation and a lost key.
//!
//! It ends with what `tfo` counted beside what the kernel counted, and exits with 0 only where they are
//! equal: 1 says that a step failed, 3 that the counters differ.

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

/// `true` where both counted alike.
fn demonstrate() -> Result<bool> {
    ensure!(
        geteuid().is_root(),
        "it makes network namespaces and attaches to one: run it as root"
    );
    signals::listen()?;
    let (testbed, times) = script::play()?;
    let equal = report::counters(&testbed)?;
    report::times(&testbed, &times)?;
    Ok(equal)
}
