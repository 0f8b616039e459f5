//! `cargo xtask`: parses the command line and hands over to the task's own module.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::setup;

/// Sets up, builds, runs, demonstrates and tests tfo.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the build and the tests need and this machine lacks
    Setup {
        /// Only report; exit status 1 if something is missing
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    dispatch(Arguments::parse().task).unwrap_or_else(|error| {
        eprintln!("tfo: {error:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(task: Task) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match task {
        Task::Setup { check: true } => setup::check(),
        Task::Setup { check: false } => setup::setup().map(done),
    }
}
