//! The `tfo` command: parses its arguments, enters the network namespace, and hands over to the
//! subcommand's file in `cli/`.

mod cli;

use std::process::ExitCode;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

fn main() -> ExitCode {
    // Keys stand in memory: no core dump, and no debugger without CAP_SYS_PTRACE. It does not fail with this value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let args = cli::parse();
    raise_file_limit();
    let verbose = args.verbose;
    match cli::run(args) {
        Ok(status) => status,
        Err(error) => {
            cli::output::tell(&error, verbose);
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit of open files to the hard one: a namespace of the service takes about ten, and its interfaces
/// more.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where that is refused, the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, raised);
}
