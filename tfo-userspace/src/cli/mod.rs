//! The command line: one file per subcommand, and what they print with.

mod attach;
mod breakdown;
mod detach;
mod doctor;
mod events;
mod farm;
mod guard;
mod keys;
mod listeners;
mod output;
mod policy;
mod run;
mod stats;
mod status;
mod top;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tfo_common::{abi::DEFAULT_SOURCES, counters::Counter};
use tfo_userspace::{
    datapath::{DEFAULT_RATE, Mirror, ModeChoice, Settings, SourceLimits},
    kernel::{netns, support},
};

use self::{guard::GuardCommand, policy::PolicyCommand};

/// The exit status of a check that found something.
const FOUND: u8 = 3;

/// TCP Fast Open on a server's NIC: validates cookies in XDP, counts what becomes of them beside the
/// kernel, and rotates the cookie keys without refusing a client.
#[derive(Parser)]
#[command(name = "tfo", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Act in another network namespace: a name of `ip netns`, or a path such as /proc/PID/ns/net
    #[arg(long, global = true, value_name = "NAME|PATH")]
    netns: Option<String>,
    /// Show the causes of an error; with `run`, log more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Attach to interfaces; stays attached when the command ends
    Attach(attach::AttachArgs),
    /// Detach from interfaces and leave nothing behind
    Detach(DetachArgs),
    /// Show where it is attached, in which mode, with which keys, and the kernel's Fast Open state
    Status(JsonArgs),
    /// Show what was counted, beside the kernel's own counters
    Stats(StatsArgs),
    /// Show every listening socket: whether it takes Fast Open, its queue, and whose keys it uses
    Listeners(JsonArgs),
    /// Show what becomes of single SYNs that have a Fast Open option or data, as they come, and when ports come to be
    /// guarded
    Events(EventsArgs),
    /// Show and change the cookie keys of the data path and of the kernel
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show and change what is done to SYNs: by port, by what they are, and how many come
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show and change which ports are guarded from SYN floods
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Show and rotate the keys that the hosts of a farm share by way of etcd
    Farm(farm::FarmArgs),
    /// Show what on this host keeps Fast Open or tfo from working, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Show rates, reasons, ports and keys live, on a terminal
    Top(top::TopArgs),
    /// Attach, and look after the keys, until SIGTERM or SIGINT; SIGHUP reads the configuration again
    Run(run::RunArgs),
}

/// How to attach.
#[derive(Args)]
struct ModeArgs {
    /// How the program runs: in the driver (native), in the stack (generic), in traffic
    /// control (tc), or the best that works
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,
    /// How closely to follow the kernel: ask its sockets what a SYN will meet (exact), or let the packet
    /// and the keys decide alone (packet), which is faster
    #[arg(long, value_enum, default_value_t = MirrorArg::Exact)]
    mirror: MirrorArg,
    /// Bits of an IPv4 source's address to count it by
    #[arg(long, default_value_t = 32, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=32))]
    source_prefix_v4: u8,
    /// Bits of an IPv6 source's address to count it by
    #[arg(long, default_value_t = 64, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=128))]
    source_prefix_v6: u8,
    /// Most sources to keep counts of; those that were not seen for longest go first. 0 for none
    #[arg(long, default_value_t = DEFAULT_SOURCES, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    max_sources: u32,
}

impl ModeArgs {
    /// What the program is told.
    fn settings(&self) -> Settings {
        Settings {
            mirror: self.mirror.into(),
            sources: SourceLimits {
                max: self.max_sources,
                v4: self.source_prefix_v4,
                v6: self.source_prefix_v6,
            },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum MirrorArg {
    /// Look up the socket of every SYN that has a Fast Open option or data
    Exact,
    /// Look at nothing but the packet
    Packet,
}

impl From<MirrorArg> for Mirror {
    fn from(mirror: MirrorArg) -> Self {
        match mirror {
            MirrorArg::Exact => Self::Exact,
            MirrorArg::Packet => Self::Packet,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Native, else generic, else tc; says which, and why
    Auto,
    /// In the driver, or not at all
    Native,
    /// In the stack: any interface, more slowly
    Generic,
    /// In traffic control (TCX, or a clsact filter before Linux 6.6): any interface, beside other XDP and TC programs
    Tc,
}

impl From<Mode> for ModeChoice {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
            Mode::Tc => Self::Tc,
        }
    }
}

#[derive(Args)]
struct DetachArgs {
    /// Network interfaces
    #[arg(required_unless_present = "all", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// All interfaces of the network namespace, also those that are gone
    #[arg(long, conflicts_with = "interfaces")]
    all: bool,
}

#[derive(Args)]
struct JsonArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct StatsArgs {
    #[command(flatten)]
    json: JsonArgs,
    /// Break the counts down
    #[arg(long, value_enum)]
    by: Option<Breakdown>,
    /// With `--by source`: how many sources to show
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// End with status 3 where counters drift from the kernel's, and say which
    #[arg(long, conflicts_with_all = ["watch", "by"])]
    check: bool,
    /// Print again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Breakdown {
    /// Per destination port
    Port,
    /// Per source prefix: who uses Fast Open, who fails, who asks
    Source,
    /// By how much data SYNs carry
    Size,
}

#[derive(Args)]
struct EventsArgs {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// SYNs to this port alone
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// SYNs that did not get Fast Open for this reason alone, such as bad-cookie
    #[arg(long, value_name = "REASON", value_parser = events::reason)]
    reason: Option<Counter>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Most events per second, on all CPUs and interfaces together; each has an equal share
    #[arg(long, default_value_t = DEFAULT_RATE, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Show the fingerprints of the keys that the kernel and the data path have
    Show(JsonArgs),
    /// Make a random key primary; cookies of the old one stay valid until the next rotation
    Rotate,
    /// Have the data path accept the keys that the kernel has
    Import,
    /// Put the keys of a file in force; cookies of all others are refused from then on
    Set {
        /// A file, mode 0600, with `PRIMARY[,BACKUP]`, each four groups of 8 hexadecimal digits as the
        /// kernel prints them
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // Refused here, the error names the cause; the first file that cannot be opened would not. The doctor
    // says itself what it may not see, and a farm is etcd's.
    if !matches!(cli.command, Command::Doctor(_) | Command::Farm(_)) {
        support::privileges()?;
    }
    // Before anything else: what the threads of the runtime see is the namespace of this one.
    if let Some(name) = &cli.netns {
        netns::enter(name)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Attach(args) => attach::run(&args).await,
            Command::Detach(args) if args.all => detach::all().await,
            Command::Detach(args) => detach::run(&args.interfaces).await,
            Command::Status(args) => status::run(args.json).await,
            Command::Stats(args) => {
                if args.json.json && args.watch.is_some() {
                    bail!("--json prints one object: run it again instead of --watch");
                }
                return stats::run(&args).await;
            }
            Command::Doctor(args) => return doctor::run(&args).await,
            Command::Farm(args) => return farm::run(&args).await,
            Command::Listeners(args) => listeners::run(args.json),
            Command::Events(args) => events::run(&args).await,
            Command::Keys(KeysCommand::Show(args)) => keys::show(args.json),
            Command::Keys(KeysCommand::Rotate) => keys::rotate(),
            Command::Keys(KeysCommand::Import) => keys::import(),
            Command::Keys(KeysCommand::Set { file }) => keys::set(&file),
            Command::Policy(PolicyCommand::Show(args)) => policy::show(args.json),
            Command::Policy(PolicyCommand::Set(args)) => policy::set(&args).await,
            Command::Policy(PolicyCommand::Clear { ports }) => policy::clear(&ports),
            Command::Guard(GuardCommand::Show(args)) => guard::show(args.json),
            Command::Guard(GuardCommand::Set(args)) => guard::set(&args).await,
            Command::Guard(GuardCommand::Clear { ports }) => guard::clear(&ports).await,
            Command::Top(args) => top::run(&args, cli.netns.as_deref()).await,
            Command::Run(args) => run::run(args, cli.verbose).await,
        }?;
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
