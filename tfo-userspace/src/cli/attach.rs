//! `tfo attach`.

use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgAction, Args};
use tfo_common::abi::DEFAULT_SOURCES;
use tfo_userspace::{
    datapath::{self, Ensured, Namespace},
    kernel::{link, mounts::ShortLived, support},
    model::{Decap, ModeChoice, Prefix, Settings, SourceLimits, Tunnel},
    service::describe_attached,
};

use super::{
    arguments::{MirrorArg, Mode},
    exit::Misuse,
    number::number,
    output::{print, tell, warn, warn_if_off},
};

#[derive(Args)]
pub(super) struct AttachArgs {
    /// Network interfaces
    #[arg(required = true, value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Mode of attachment [default: auto; with --replace, the present one]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Lookup of a SYN's outcome: exact, as the kernel decides, or faster, by the packet alone
    #[arg(long, value_enum, default_value_t = MirrorArg::Exact)]
    mirror: MirrorArg,
    /// Count IPv4 sources by prefixes of this many bits, 0 to 32 [default: 32]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=32))]
    source_prefix_v4: Option<u8>,
    /// Count IPv6 sources by prefixes of this many bits, 0 to 128 [default: 64]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=128))]
    source_prefix_v6: Option<u8>,
    /// Count at most this many source prefixes; the least recently seen are dropped first. 0 counts none
    #[arg(long, default_value_t = DEFAULT_SOURCES, value_name = "N", value_parser = number::<u32>(0..=16_777_216))]
    max_sources: u32,
    /// Read through tunnels to this host, to the SYNs in them: ipip (IP in IP, of either version in either), gre, fou:PORT,
    /// gue:PORT. It takes --decap-from, and no tfo on the device at which the tunnels end
    #[arg(long, value_name = "TUNNEL", value_delimiter = ',', action = ArgAction::Append)]
    decap: Vec<Tunnel>,
    /// Prefixes from which the outer packets of such tunnels come: those of the load balancers
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', action = ArgAction::Append)]
    decap_from: Vec<Prefix>,
    /// If tfo is attached already, replace its program by this build's, with these options. No packet goes
    /// uncounted; counters and keys stay. Use it after an upgrade of tfo, or with --mode to move it
    #[arg(long)]
    replace: bool,
}

impl AttachArgs {
    fn settings(&self) -> Result<Settings, Misuse> {
        let default = SourceLimits::default();
        let decap = Decap::new(&self.decap, &self.decap_from)
            .map_err(|error| Misuse::decap("attach", &error))?;
        Ok(Settings {
            mirror: self.mirror.into(),
            sources: SourceLimits {
                max: self.max_sources,
                v4: self.source_prefix_v4.unwrap_or(default.v4),
                v6: self.source_prefix_v6.unwrap_or(default.v6),
            },
            decap,
        })
    }
}

/// Tries each interface; a failure of one does not keep the others from being attached.
pub(super) async fn run(args: &AttachArgs, verbose: u8) -> anyhow::Result<ExitCode> {
    let prefixes = [args.source_prefix_v4, args.source_prefix_v6];
    Misuse::check_sources("attach", Some(args.max_sources), prefixes)?;
    let settings = args.settings()?;
    support::check_kernel()?;
    check_stays(&args.interfaces.join(" "))?;
    let namespace = Namespace::current()?;
    let (mut attached, mut failed) = (false, false);
    for interface in &args.interfaces {
        match attach(&namespace, interface, args, settings).await {
            Ok(()) => attached = true,
            Err(error) => {
                tell(&error, verbose);
                failed = true;
            }
        }
    }
    if attached {
        for each in datapath::unchallenged_tunnels(&namespace).await? {
            warn(&each.to_string());
        }
        warn_if_off()?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Refuses to attach what would be detached when this process ends.
fn check_stays(interfaces: &str) -> anyhow::Result<()> {
    let Some(short_lived) = ShortLived::find() else {
        return Ok(());
    };
    let remedy = short_lived.remedy(&format!("attach {interfaces}"));
    if short_lived.ends_with_process() {
        bail!("not attached, since it would not last: {short_lived}: {remedy}");
    }
    warn(&format!("{short_lived}: {remedy}"));
    Ok(())
}

async fn attach(
    namespace: &Namespace,
    name: &str,
    args: &AttachArgs,
    settings: Settings,
) -> anyhow::Result<()> {
    // The name may be an alternative one.
    let interface = link::find(name).await?.name;
    let interface = interface.as_str();
    let mode = args.mode.map(ModeChoice::from);
    let ensured = if args.replace {
        datapath::ensure(namespace, interface, mode, settings).await?
    } else {
        let mode = mode.unwrap_or_default();
        Ensured::Attached(datapath::attach(namespace, interface, mode, settings).await?)
    };
    print(&describe_attached(interface, &ensured))
}
