//! `tfo run`: the service, in the foreground.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{ArgAction, Args, ValueEnum};
use tfo_userspace::{
    config::{self, ConfigError, ConfigSource, Flags, Layer, SourceKind},
    keys::OnForeignChange,
    model::{Decap, ListenAddress, MAX_METRIC_PORTS, Prefix, Tunnel},
    service::{self, NetnsHelper},
};

use super::{
    arguments::{MirrorArg, Mode},
    exit::Misuse,
    number::{self, number},
};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Configuration file, TOML; options given here override its top level [default: none]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Network interface; may be given several times. One that is attached already is kept, or upgraded in place if it
    /// is of another build or has other settings
    #[arg(short, long = "interface", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Mode of attachment [default: auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Lookup of a SYN's outcome: exact, as the kernel decides, or faster, by the packet alone [default: exact]
    #[arg(long, value_enum)]
    mirror: Option<MirrorArg>,
    /// Count IPv4 sources by prefixes of this many bits, 0 to 32 [default: 32]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=32))]
    source_prefix_v4: Option<u8>,
    /// Count IPv6 sources by prefixes of this many bits, 0 to 128 [default: 64]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=128))]
    source_prefix_v6: Option<u8>,
    /// Count at most this many source prefixes; the least recently seen are dropped first. 0 counts none
    /// [default: 16384]
    #[arg(long, value_name = "N", value_parser = number::<u32>(0..=16_777_216))]
    max_sources: Option<u32>,
    /// Read through tunnels to this host, to the SYNs in them: ipip, gre, fou:PORT, gue:PORT; as for tfo attach
    /// [default: none]
    #[arg(long, value_name = "TUNNEL", value_delimiter = ',', action = ArgAction::Append)]
    decap: Vec<Tunnel>,
    /// Prefixes from which the outer packets of such tunnels come: those of the load balancers
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', action = ArgAction::Append)]
    decap_from: Vec<Prefix>,
    /// Destination port with metrics of its own; may be given several times [default: none]
    #[arg(long = "port", value_name = "PORT", value_parser = number::port)]
    ports: Vec<u16>,
    /// Source of the cookie keys [default: random]
    #[arg(long, value_enum, value_name = "SOURCE")]
    key_source: Option<KeySourceArg>,
    /// File of the secret or of the keys, mode 0600, for the key sources secret and file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Time for which a key is primary: a number with s, m, h or d. The cookie of a client that stays away for less
    /// remains valid [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = config::parse_interval)]
    interval: Option<Duration>,
    /// Reaction to a change of the kernel's keys by another program [default: restore]
    #[arg(long, value_enum, value_name = "ACTION")]
    on_foreign_change: Option<ForeignChange>,
    /// Serve Prometheus metrics over HTTP: on a port of the loopback address, on another address, or on a Unix socket
    /// of mode 0660 [default: no metrics; without a value: 127.0.0.1:9733]
    #[arg(long, value_name = "PORT|ADDRESS:PORT|unix:PATH", num_args = 0..=1, default_missing_value = "127.0.0.1:9733")]
    metrics: Option<ListenAddress>,
    /// Detach on exit; without it, the program stays attached and counts
    #[arg(long)]
    detach_on_exit: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeySourceArg {
    /// Random keys, for this host alone
    Random,
    /// Keys derived from a secret and the clock, as tofurkey does: the same on all hosts with that secret
    Secret,
    /// Keys that another program writes to a file
    File,
    /// Keys of a farm, whose hosts rotate together: see the section `[farm]` of the configuration file
    Etcd,
    /// Keys that another program writes to the sysctl `net.ipv4.tcp_fastopen_key`
    Kernel,
}

#[derive(Clone, Copy, ValueEnum)]
enum ForeignChange {
    /// Put the keys of tfo back
    Restore,
    /// Accept the new keys until the key source has the next ones
    Follow,
}

impl RunArgs {
    /// Refuses a flag that would have no effect, and a service with nothing to attach to.
    fn check(&self) -> anyhow::Result<()> {
        if self.config.is_some() {
            return Ok(());
        }
        if self.interfaces.is_empty() {
            bail!(Misuse::new(
                "run",
                "nothing to attach to: give an interface with -i, or a configuration file with -c",
            ));
        }
        let reads = matches!(
            self.key_source,
            Some(KeySourceArg::Secret | KeySourceArg::File)
        );
        if self.key_file.is_some() && !reads {
            bail!(Misuse::new(
                "run",
                "--key-file is read with --key-source secret and --key-source file alone",
            ));
        }
        if self.on_foreign_change.is_some() && matches!(self.key_source, Some(KeySourceArg::Kernel))
        {
            bail!(Misuse::new(
                "run",
                "--on-foreign-change does not go with --key-source kernel: all keys are of others there",
            ));
        }
        let prefixes = [self.source_prefix_v4, self.source_prefix_v6];
        Ok(Misuse::check_sources("run", self.max_sources, prefixes)?)
    }

    /// The tunnels to read through; `None` where no flag names any.
    fn decap(&self) -> Result<Option<Decap>, Misuse> {
        if self.decap.is_empty() && self.decap_from.is_empty() {
            return Ok(None);
        }
        Decap::new(&self.decap, &self.decap_from)
            .map(Some)
            .map_err(|error| Misuse::decap("run", &error))
    }

    fn flags(&self) -> Result<Flags, Misuse> {
        Ok(Flags {
            interfaces: self.interfaces.clone(),
            layer: Layer {
                mode: self.mode.map(Into::into),
                mirror: self.mirror.map(Into::into),
                max_sources: self.max_sources,
                source_prefix_v4: self.source_prefix_v4,
                source_prefix_v6: self.source_prefix_v6,
                decap: self.decap()?,
                key_source: self.key_source.map(|source| match source {
                    KeySourceArg::Random => SourceKind::Random,
                    KeySourceArg::Secret => SourceKind::Secret,
                    KeySourceArg::File => SourceKind::File,
                    KeySourceArg::Etcd => SourceKind::Etcd,
                    KeySourceArg::Kernel => SourceKind::Kernel,
                }),
                interval: self.interval,
                key_path: self.key_file.clone(),
                on_foreign_change: self.on_foreign_change.map(|action| match action {
                    ForeignChange::Restore => OnForeignChange::Restore,
                    ForeignChange::Follow => OnForeignChange::Follow,
                }),
                farm: None,
            },
            ports: self
                .ports
                .iter()
                .copied()
                .take(MAX_METRIC_PORTS + 1)
                .collect(),
            metrics: self.metrics.clone(),
            detach_on_exit: self.detach_on_exit,
        })
    }
}

pub(super) fn run(args: &RunArgs, verbose: u8) -> anyhow::Result<()> {
    args.check()?;
    let source = ConfigSource {
        flags: args.flags()?,
        path: args.config.clone(),
    };
    let loaded = source.read().and_then(|text| source.parse(&text));
    match &loaded {
        Err(error @ ConfigError::Invalid { .. }) if args.config.is_none() => {
            bail!(Misuse::new("run", error.to_string()));
        }
        Ok(config) if !args.ports.is_empty() && config.metrics.is_none() => {
            bail!(Misuse::new(
                "run",
                "--port is for metrics: add --metrics, or [metrics] to the file",
            ));
        }
        // The service reports other errors.
        _ => {}
    }
    service::log::start(verbose);
    // Before the runtime: the helper is made of this process as it is now, with one thread and all capabilities.
    let helper = match &loaded {
        Ok(config) => NetnsHelper::start(&source, config).context(
            "[[namespace]]: cannot start the helper process: allow the service to start processes (TasksMax)",
        )?,
        Err(_) => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(service::run(&source, helper))?)
}
