//! The `tfo` command: parses its arguments, enters the network namespace, and hands over to the
//! subcommand's file in `cli/`.

mod cli;

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

fn main() -> ExitCode {
    // Keys stand in memory: no core dump, and no debugger without CAP_SYS_PTRACE. It does not fail with this value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let args = cli::parse();
    let verbose = args.verbose;
    match cli::run(args) {
        Ok(status) => status,
        Err(error) => {
            cli::tell(&error, verbose);
            ExitCode::FAILURE
        }
    }
}
