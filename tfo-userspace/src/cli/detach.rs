//! `tfo detach`.

use std::process::ExitCode;

use clap::Args;
use tfo_userspace::{
    datapath::{self, Namespace},
    kernel::link,
};

use super::output::{print, tell};

#[derive(Args)]
pub(super) struct DetachArgs {
    /// Network interfaces
    #[arg(required_unless_present = "all", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Detach from all interfaces of the network namespace, including those that no longer exist or were moved
    #[arg(long, conflicts_with = "interfaces")]
    all: bool,
}

/// Tries each interface; a failure of one does not keep the others from being detached.
pub(super) async fn run(args: &DetachArgs, verbose: u8) -> anyhow::Result<ExitCode> {
    if args.all {
        return all().await.map(|()| ExitCode::SUCCESS);
    }
    let namespace = Namespace::current()?;
    let mut status = ExitCode::SUCCESS;
    for name in &args.interfaces {
        if let Err(error) = detach(&namespace, name).await {
            tell(&error, verbose);
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}

async fn detach(namespace: &Namespace, name: &str) -> anyhow::Result<()> {
    let interface = link::find(name).await?;
    datapath::detach(namespace, interface.index, &interface.name).await?;
    print(&format!("{name}: detached\n"))
}

async fn all() -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let interfaces = namespace.interfaces().await?;
    let nothing = interfaces.is_empty();
    for interface in interfaces {
        let name = interface.label();
        datapath::detach(&namespace, interface.index, &name).await?;
        print(&format!("{name}: detached\n"))?;
    }
    let strays = datapath::detach_strays(&namespace).await?;
    for stray in &strays {
        print(&format!(
            "{}: detached program {}, which came with it from another network namespace\n",
            stray.interface, stray.program_id
        ))?;
    }
    let others = datapath::detach_gone(&namespace).await?;
    for index in &others {
        print(&format!(
            "interface {index}: detached, of another layout version\n"
        ))?;
    }
    datapath::sweep_controllers();
    if nothing && others.is_empty() && strays.is_empty() {
        print("nothing was attached here\n")?;
    }
    Ok(())
}
