//! `tfo attach`.

use tfo_userspace::datapath::{self, Namespace};

use super::{
    ModeArgs,
    output::{print, warn_if_off},
};

pub(super) async fn run(interfaces: &[String], mode: &ModeArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    for interface in interfaces {
        let attached =
            datapath::attach(&namespace, interface, mode.mode.into(), mode.settings()).await?;
        print(&attached.describe(interface))?;
    }
    warn_if_off()
}
