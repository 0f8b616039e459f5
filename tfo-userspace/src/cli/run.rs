//! `tfo run`: the service, in the foreground.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tfo_userspace::{
    config::{self, Config, Flags, Layer, SourceKind},
    keys::OnForeignChange,
    model::{ListenAddress, MAX_METRIC_PORTS},
    service,
};

use super::{MirrorArg, Mode};

#[derive(Args)]
pub(super) struct RunArgs {
    /// Configuration file; flags win over what stands at its top
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Network interface; give it several times for several. One that is attached already is taken over
    #[arg(
        short,
        long = "interface",
        required_unless_present = "config",
        value_name = "IFACE"
    )]
    interfaces: Vec<String>,
    /// How the program runs [default: auto]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// How closely to follow the kernel [default: exact]
    #[arg(long, value_enum)]
    mirror: Option<MirrorArg>,
    /// Bits of an IPv4 source's address to count it by [default: 32]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=32))]
    source_prefix_v4: Option<u8>,
    /// Bits of an IPv6 source's address to count it by [default: 64]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=128))]
    source_prefix_v6: Option<u8>,
    /// Most sources to keep counts of; 0 for none [default: 16384]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    max_sources: Option<u32>,
    /// Destination port that metrics name; give it several times for several
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// Where cookie keys come from [default: random]
    #[arg(long, value_enum, value_name = "SOURCE")]
    key_source: Option<KeySourceArg>,
    /// The file of the secret or of the keys, mode 0600
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// How long a key is primary: a number with s, m, h or d. A client may stay away for as long without
    /// losing its cookie [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = config::parse_interval)]
    interval: Option<Duration>,
    /// What to do where someone else changes the kernel's keys [default: restore]
    #[arg(long, value_enum, value_name = "ACTION")]
    on_foreign_change: Option<ForeignChange>,
    /// Serve Prometheus metrics over HTTP: at a port of the loopback address, at another address, or at
    /// a unix socket, which its owner and group may use
    #[arg(long, value_name = "PORT|ADDRESS:PORT|unix:PATH", num_args = 0..=1, default_missing_value = "127.0.0.1:9733")]
    metrics: Option<ListenAddress>,
    /// Detach at the end; otherwise the data path stays, and goes on counting
    #[arg(long)]
    detach_on_exit: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeySourceArg {
    /// Made here, for this host alone
    Random,
    /// Derived from a secret and the clock, as tofurkey does: the same on all hosts with the secret
    Secret,
    /// Those that someone else writes into a file
    File,
    /// Those of a farm, whose hosts rotate together: see the section `[farm]` of the file
    Etcd,
    /// Those that someone else writes into the sysctl `net.ipv4.tcp_fastopen_key`
    Kernel,
}

#[derive(Clone, Copy, ValueEnum)]
enum ForeignChange {
    /// Put ours back
    Restore,
    /// Take theirs, until the source has the next ones
    Follow,
}

impl RunArgs {
    fn flags(&self) -> Flags {
        Flags {
            interfaces: self.interfaces.clone(),
            layer: Layer {
                mode: self.mode.map(Into::into),
                mirror: self.mirror.map(Into::into),
                max_sources: self.max_sources,
                source_prefix_v4: self.source_prefix_v4,
                source_prefix_v6: self.source_prefix_v6,
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
        }
    }
}

pub(super) async fn run(args: RunArgs, verbose: u8) -> anyhow::Result<()> {
    service::log::start(verbose);
    let flags = args.flags();
    Ok(service::run(|| Config::load(args.config.as_deref(), &flags)).await?)
}
