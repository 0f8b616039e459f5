//! The command line: a file per subcommand, with its options and its output.

mod arguments;
mod attach;
mod cookies;
mod demo;
mod detach;
mod doctor;
mod enable;
mod events;
mod exit;
mod farm;
mod guard;
mod keys;
mod listeners;
mod number;
pub(crate) mod output;
mod policy;
mod probe;
mod rate;
mod run;
mod stats;
mod status;
mod time;
mod top;

use std::{
    env,
    ffi::OsString,
    os::unix::net::UnixStream,
    process::{self, ExitCode},
};

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};
use tfo_userspace::{
    datapath::{Build, Namespace},
    kernel::{netns, refusal, support},
    service,
};

use self::{arguments::JsonArgs, exit::Misuse, output::print};

/// Pairs of file descriptors that the runtime needs.
const PAIRS: usize = 4;

/// Validate, count and protect TCP Fast Open on a server's network interfaces, in XDP.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage, 3 a check found something.
#[derive(Parser)]
#[command(name = "tfo", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Act in this network namespace: a name of `ip netns`, or a path such as /proc/PID/ns/net
    /// [default: the current one]
    #[arg(long, global = true, value_name = "NAME|PATH", display_order = 1000)]
    netns: Option<String>,
    /// Show the causes of an error; with `status`, the memory of each map; with `run`, log more (-vv: most)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 1001)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Attach to interfaces; the program stays attached when the command ends
    Attach(attach::AttachArgs),
    /// Detach from interfaces and remove everything that is pinned for them
    Detach(detach::DetachArgs),
    /// Show the attached interfaces, the keys, the policy, the guard and the drift
    Status(JsonArgs),
    /// Show how many SYNs had their data taken, why not the others, and every counter beside the kernel's
    Stats(stats::StatsArgs),
    /// Show every listening socket: its Fast Open state, its queue, and whose keys it uses
    Listeners(JsonArgs),
    /// Turn Fast Open on for listeners that run already, in any process, without a restart
    Enable(enable::EnableArgs),
    /// Turn Fast Open off for listeners that run
    Disable(enable::DisableArgs),
    /// Print SYNs with a Fast Open option or data as they arrive, and when the guard switches on or off
    Events(events::EventsArgs),
    /// Show and change the cookie keys of the data path and the kernel
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show and change own cookies, which the data path translates to the kernel's
    #[command(subcommand)]
    Cookies(cookies::CookiesCommand),
    /// Show and change the policy: actions and rate limits for SYNs, by port
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show and change the guard, which protects ports from SYN floods
    #[command(subcommand)]
    Guard(guard::GuardCommand),
    /// Show and rotate the keys that the hosts of a farm share through etcd
    Farm(farm::FarmArgs),
    /// Find what keeps Fast Open or tfo from working on this host, and print the remedy
    Doctor(doctor::DoctorArgs),
    /// Find whether Fast Open works from this host to a server, and what is in the way; without privileges as far as sockets
    /// show it
    Probe(probe::ProbeArgs),
    /// See it work: a client and a server in network namespaces of this command's own, with tfo between them. Touches nothing
    /// else, and leaves nothing
    Demo(JsonArgs),
    /// Show the share of data taken, rates, reasons, ports and keys live on a terminal
    Top(top::TopArgs),
    /// Run the service: attach, rotate keys, serve metrics, until SIGTERM or SIGINT; SIGHUP reloads the
    /// configuration
    Run(run::RunArgs),
    /// Set the Fast Open queue of listeners for `run`, which starts this and talks to it on standard input
    #[command(name = service::HELPER_COMMAND, hide = true)]
    ListenerHelper,
}

/// The command line of this process. Ends the process where it is wrong, with status 2.
pub(crate) fn parse() -> Cli {
    let parsed = command().try_get_matches();
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| match error.kind() {
        ErrorKind::DisplayVersion => {
            let _ = print(&format!("tfo {}\n", Build::own()));
            process::exit(0);
        }
        ErrorKind::InvalidUtf8 => match not_utf8(&env::args_os().collect::<Vec<_>>()) {
            Some(message) => refuse("", &message),
            None => error.exit(),
        },
        _ => error.exit(),
    })
}

/// The definition of the command line.
pub(crate) fn command() -> clap::Command {
    options_take_minus(Cli::command())
}

/// Has `--watch -1` be a wrong value of the option instead of an unknown flag.
fn options_take_minus(command: clap::Command) -> clap::Command {
    let takes = |arg: clap::Arg| {
        let is_option = arg.get_long().is_some() && arg.get_action().takes_values();
        if is_option {
            arg.allow_negative_numbers(true)
        } else {
            arg
        }
    };
    command.mut_args(takes).mut_subcommands(options_take_minus)
}

/// The argument that is not UTF-8, which clap does not name.
fn not_utf8(arguments: &[OsString]) -> Option<String> {
    let at = arguments.iter().position(|it| it.to_str().is_none())?;
    let text = arguments[at].to_string_lossy();
    let flag = arguments[at - at.min(1)].to_str();
    let flag = flag.filter(|flag| flag.starts_with('-'));
    let flag = text.split_once('=').map(|(flag, _)| flag).or(flag);
    let place = flag.map_or(String::new(), |flag| format!("{flag}: "));
    Some(format!("{place}'{text}' is not UTF-8: write it in UTF-8"))
}

/// Ends the process as clap does for a command line that it refuses: the message, the usage of the subcommand `of`, and
/// status 2.
fn refuse(of: &str, message: &str) -> ! {
    let mut whole = command();
    whole.build();
    let words = of.split_whitespace();
    let command = words.fold(&whole, |command, word| {
        command.find_subcommand(word).unwrap_or(command)
    });
    command
        .clone()
        .error(ErrorKind::ArgumentConflict, message)
        .exit()
}

/// Executes the command line. Ends the process where it is wrong, with status 2.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    execute(cli).map_err(|error| match error.downcast() {
        Ok(Misuse { of, message }) => refuse(of, &message),
        Err(error) => error,
    })
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    // Checked here, the error names the cause; the first file that cannot be opened would not. `doctor`, `probe` and `demo`
    // report missing privileges themselves, a farm needs none, and listeners of the same user need none either.
    let needs_none = matches!(
        cli.command,
        Command::Doctor(_)
            | Command::Demo(_)
            | Command::Farm(_)
            | Command::Probe(_)
            | Command::Enable(_)
            | Command::Disable(_)
            | Command::ListenerHelper
    );
    if !needs_none {
        support::privileges()?;
    }
    if cli.netns.is_some() && matches!(cli.command, Command::Demo(_)) {
        bail!(Misuse::new(
            "demo",
            "demo makes network namespaces of its own: leave out --netns",
        ));
    }
    // Before the runtime starts: its threads inherit the namespace.
    if let Some(name) = &cli.netns {
        netns::enter(name)?;
    }
    has_file_descriptors()?;
    // It makes its helper before it starts a runtime.
    if let Command::Run(args) = &cli.command {
        run::run(args, cli.verbose)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    follow_routes(&cli.command);
    runtime.block_on(async {
        match cli.command {
            Command::Attach(args) => return attach::run(&args, cli.verbose).await,
            Command::Detach(args) => return detach::run(&args, cli.verbose).await,
            Command::Status(args) => status::run(args.json, cli.verbose > 0).await,
            Command::Stats(args) => return stats::run(&args).await,
            Command::Doctor(args) => return doctor::run(&args).await,
            Command::Demo(args) => return demo::run(args.json).await,
            Command::Farm(args) => return farm::run(&args).await,
            Command::Listeners(args) => listeners::run(args.json),
            Command::Enable(args) => return enable::enable(&args),
            Command::Disable(args) => return enable::disable(&args),
            Command::Events(args) => events::run(&args).await,
            Command::Keys(command) => keys::run(&command),
            Command::Cookies(command) => cookies::run(&command).await,
            Command::Policy(command) => policy::run(&command).await,
            Command::Guard(command) => guard::run(&command).await,
            Command::Probe(args) => return probe::run(&args),
            Command::Top(args) => top::run(&args, cli.netns.as_deref()).await,
            Command::Run(args) => run::run(&args, cli.verbose),
            Command::ListenerHelper => helper(),
        }?;
        Ok(ExitCode::SUCCESS)
    })
}

fn helper() -> anyhow::Result<()> {
    service::serve_listener_helper().context(
        "listener-helper is a part of `tfo run`, which starts it: see [listeners] in tfo.toml(5)",
    )
}

/// Refuses to go on with fewer file descriptors than the runtime needs, which panics without them.
fn has_file_descriptors() -> anyhow::Result<()> {
    let pairs = std::iter::repeat_with(UnixStream::pair).take(PAIRS);
    if pairs.collect::<Result<Vec<_>, _>>().is_err() {
        bail!(refusal::of_files());
    }
    Ok(())
}

/// Brings the data path's local routes up to date, for which no service may be running.
fn follow_routes(command: &Command) {
    let looks = matches!(
        command,
        Command::Status(_)
            | Command::Stats(_)
            | Command::Doctor(_)
            | Command::Top(_)
            | Command::Policy(_)
            | Command::Guard(_)
            | Command::Cookies(_)
    );
    if let Some(namespace) = Namespace::current().ok().filter(|_| looks) {
        // Where the data path cannot be read, the command says so.
        let _ = namespace.follow_routes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let told = |arguments: &[&[u8]]| {
            let arguments = arguments.iter().map(|it| OsString::from_vec(it.to_vec()));
            not_utf8(&arguments.collect::<Vec<_>>())
        };
        assert_eq!(told(&[b"tfo", b"stats"]), None);
        let lone = told(&[b"tfo", b"attach", b"a\xff"]).unwrap();
        assert!(lone.starts_with("'a\u{fffd}' is not UTF-8"), "{lone}");
        for arguments in [
            [&b"tfo"[..], b"--netns", b"\xff"],
            [b"tfo", b"x", b"--netns=\xff"],
        ] {
            let flagged = told(&arguments).unwrap();
            assert!(flagged.starts_with("--netns: "), "{flagged}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
