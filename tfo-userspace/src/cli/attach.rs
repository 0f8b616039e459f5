//! `tfo attach`.

use tfo_userspace::{
    datapath::{self, Attached, Namespace},
    keys::Fingerprint,
};

use super::{
    ModeArgs,
    output::{print, warn_if_off},
};

pub(super) async fn run(interfaces: &[String], mode: &ModeArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    for interface in interfaces {
        let attached =
            datapath::attach(&namespace, interface, mode.mode.into(), mode.settings()).await?;
        print(&describe(interface, &attached))?;
    }
    warn_if_off()
}

/// What came of it, in a line or two.
pub(super) fn describe(interface: &str, attached: &Attached) -> String {
    let Attached {
        mode,
        not_native,
        mirror,
        not_exact,
        program_id,
        keys,
    } = attached;
    let mut text = format!(
        "{interface}: attached in {mode} mode (program {program_id}), {mirror} mirror, primary key {}\n",
        Fingerprint::of(&keys.primary)
    );
    if let Some(reason) = not_exact {
        text += &format!("{interface}: packet-level mirror: {reason}\n");
    }
    if let Some(reason) = not_native {
        text += &format!("{interface}: not native, which is faster: {reason}\n");
    }
    text
}
