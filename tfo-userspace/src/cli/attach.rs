//! `tfo attach`.

use tfo_userspace::{
    datapath::{self, Ensured, Namespace},
    service::describe_attached,
};

use super::{
    ModeArgs,
    output::{print, warn_if_off},
};

/// What `tfo attach` takes.
#[derive(clap::Args)]
pub(super) struct AttachArgs {
    /// Network interfaces
    #[arg(required = true, value_name = "IFACE")]
    interfaces: Vec<String>,
    #[command(flatten)]
    mode: ModeArgs,
    /// Where tfo is attached already, put this build's program with these options in its place: no packet
    /// goes by uncounted, and mode, counts and keys stay. For after an upgrade of tfo
    #[arg(long)]
    replace: bool,
}

pub(super) async fn run(args: &AttachArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let (mode, settings) = (args.mode.mode.into(), args.mode.settings());
    for interface in &args.interfaces {
        let ensured = if args.replace {
            datapath::ensure(&namespace, interface, mode, settings).await?
        } else {
            let attached = datapath::attach(&namespace, interface, mode, settings).await?;
            Ensured::Attached(attached)
        };
        print(&describe_attached(interface, &ensured))?;
    }
    warn_if_off()
}
