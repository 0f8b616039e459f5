//! `cargo xtask`: parses the command line and calls the task's module.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{
    architecture::Architecture,
    bench,
    build::{self, Profile},
    ci, counters, demo, deploy, dist, fuzz, lint, run, setup, site, test,
    vm::{
        self,
        network::{self, Role},
    },
};

/// Sets up, builds, runs, tests and packages tfo.
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
        /// Only report what is missing; exit status 1 if anything is
        #[arg(long)]
        check: bool,
    },
    /// Build the tfo command, with the eBPF program in it
    Build {
        /// Build with optimisations
        #[arg(long)]
        release: bool,
        /// Cross-build for another architecture, such as aarch64-unknown-linux-gnu
        #[arg(long, value_name = "ARCHITECTURE")]
        target: Option<Architecture>,
    },
    /// Build, then run `tfo ARGS` as root
    Run {
        /// Arguments of tfo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Demonstrate tfo on this machine, in network namespaces of its own
    Demo,
    /// Run the unit tests, then the kernel suites as root
    Test {
        /// A suite, such as farm, guard or program, a test binary, or a package; else all
        suite: Option<String>,
        /// Part of the tests' names
        filter: Option<String>,
        /// Arguments of the test binaries, such as `--nocapture`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Measure the cost of the data path, as root
    Bench {
        /// Arguments of the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Send random SYNs and compare tfo's counters with the kernel's, as root
    Fuzz {
        /// Arguments of the fuzzer, such as `--syns 1000000` and `--seed 1`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run the kernel suites on Debian's kernels, in QEMU
    Vm {
        /// Kernel series, such as 6.1, or 6.12-16k on arm64 [default: all of these]
        #[arg(value_name = "KERNEL")]
        series: Vec<String>,
        /// The guests' architecture: amd64, or arm64, emulated and with cross-built suites
        #[arg(long, default_value = "amd64", value_name = "ARCHITECTURE")]
        arch: Architecture,
        /// Suite to run, as `cargo xtask test` names it, or SUITE/FILTER [default: each feature once]
        #[arg(long = "suite", value_name = "NAME")]
        suites: Vec<String>,
        /// Test a split guard: its edge is a guest with two network devices, its hosts are on this machine
        #[arg(long, conflicts_with_all = ["arch", "suites", "limit", "table"])]
        edge: bool,
        /// Test each driver of a network device that QEMU has, in a guest that serves clients on this machine
        #[arg(long, conflicts_with_all = ["arch", "suites", "limit", "edge"])]
        drivers: bool,
        /// Time limit for each kernel [default: 30, for another architecture 120]
        #[arg(long, value_name = "MINUTES")]
        limit: Option<u64>,
        /// Write the table of kernels in docs/reference.md, this machine's included; with --drivers, that of drivers
        #[arg(long, conflicts_with = "suites")]
        table: bool,
    },
    /// Make a Debian package, in target/dist
    Dist {
        /// Make all that users install: also an .rpm, an archive, an OCI image, the chart, a bill of materials, checksums
        #[arg(long)]
        all: bool,
        /// Cross-build for another architecture, arm64
        #[arg(long, value_name = "ARCHITECTURE")]
        arch: Option<Architecture>,
        /// Check what was made with lintian, rpmlint, systemd, clean systems and a container, as root
        #[arg(long)]
        check: bool,
    },
    /// Write docs/counters.md from the tables of the code
    Counters,
    /// Make the documentation as a site, in target/site/book
    Site {
        /// Draw `tfo top` anew for README.md, as root, and pages of the site, in target/site/screenshots
        #[arg(long)]
        screenshots: bool,
    },
    /// Check the Helm chart and the compose file in deploy/, as root
    Deploy,
    /// Check format, spelling, imports, dependencies, lints and docs
    Lint,
    /// Run all that a change has to pass: lint, test, demo, and each feature on Linux 6.1
    Ci,
}

fn main() -> ExitCode {
    dispatch(Arguments::parse().task).unwrap_or_else(|error| {
        eprintln!("tfo: {error:#}");
        ExitCode::FAILURE
    })
}

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(number * 60)
}

fn dispatch(task: Task) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match task {
        Task::Setup { check: true } => setup::check(),
        Task::Setup { check: false } => setup::setup().map(done),
        Task::Build { release, target } => build::build(Profile::of(release), target).map(done),
        Task::Run { args } => run::run(&args),
        Task::Demo => demo::demo(),
        Task::Test {
            suite,
            filter,
            args,
        } => {
            let selection = test::Selection {
                suite,
                filter,
                args,
                architecture: None,
            };
            let report = test::test(&selection)?;
            Ok(if report.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Task::Bench { args } => bench::bench(&args),
        Task::Fuzz { args } => fuzz::fuzz(&args),
        Task::Vm {
            series,
            arch,
            suites,
            edge,
            drivers,
            limit,
            table,
        } => match (edge, drivers) {
            (true, _) => network::test(Role::Edge, &series, false),
            (_, true) => network::test(Role::Drivers, &series, table),
            _ => vm::vm(&vm::Plan {
                architecture: arch,
                series,
                suites,
                limit: minutes(limit.unwrap_or(if arch.is_foreign() { 120 } else { 30 })),
                table,
            }),
        },
        Task::Dist { all, arch, check } => dist::dist(dist::Plan {
            architecture: arch,
            all,
            check,
        })
        .map(done),
        Task::Counters => counters::counters().map(done),
        Task::Site { screenshots } => site::site(screenshots).map(done),
        Task::Deploy => deploy::deploy().map(done),
        Task::Lint => lint::lint().map(done),
        Task::Ci => ci::ci(),
    }
}
