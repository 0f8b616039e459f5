//! `tfo attach`.

use tfo_userspace::{
    datapath::{self, Attached, ModeChoice, Namespace},
    keys::Fingerprint,
};

use super::output::{print, warn_if_off};

pub(super) async fn run(interfaces: &[String], mode: ModeChoice) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    for interface in interfaces {
        let attached = datapath::attach(&namespace, interface, mode).await?;
        print(&describe(interface, &attached))?;
    }
    warn_if_off()
}

/// What came of it, in a line or two.
pub(super) fn describe(interface: &str, attached: &Attached) -> String {
    let Attached {
        mode,
        not_native,
        program_id,
        keys,
    } = attached;
    let mut text = format!(
        "{interface}: attached in {mode} mode (program {program_id}), primary key {}\n",
        Fingerprint::of(&keys.primary)
    );
    if let Some(reason) = not_native {
        text += &format!("{interface}: not native, which is faster: the driver says: {reason}\n");
    }
    text
}
