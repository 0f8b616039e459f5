//! `tfo attach`.

use tfo_userspace::{
    datapath::{self, Attached, Ensured, Namespace, Upgraded, Whose},
    keys::Fingerprint,
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
        let text = if args.replace {
            let ensured = datapath::ensure(&namespace, interface, mode, settings).await?;
            describe_ensured(interface, &ensured)
        } else {
            let attached = datapath::attach(&namespace, interface, mode, settings).await?;
            describe(interface, &attached)
        };
        print(&text)?;
    }
    warn_if_off()
}

/// As [`describe`], where something may have been attached already.
pub(super) fn describe_ensured(interface: &str, ensured: &Ensured) -> String {
    let upgraded = match ensured {
        Ensured::Attached(attached) => return describe(interface, attached),
        Ensured::Kept(kept) => {
            let mode = kept
                .mode
                .map_or_else(String::new, |mode| format!(", {mode} mode"));
            let program = kept.program_id;
            return format!("{interface}: taken over as it is: program {program}{mode}\n");
        }
        Ensured::Upgraded(upgraded) => upgraded,
    };
    let Upgraded {
        mode,
        mirror,
        not_exact,
        program_id,
        before,
        kept_sources,
    } = upgraded;
    let mut text = format!(
        "{interface}: upgraded in place: program {program_id}, {mode} mode, {mirror} mirror; the one before was {before}\n"
    );
    if let Whose::OtherLayout(version) = before {
        text +=
            &format!("{interface}: its counts start anew: they were kept in layout {version}\n");
    }
    if let Some(reason) = not_exact {
        text += &format!("{interface}: packet-level mirror: {reason}\n");
    }
    if let Some(kept) = kept_sources {
        text += &format!(
            "{interface}: goes on with at most {kept} sources, since their map stays: `tfo detach {interface}`, then attach, for another number\n"
        );
    }
    text
}

/// What came of it, in a line or two.
pub(super) fn describe(interface: &str, attached: &Attached) -> String {
    let Attached {
        mode,
        not_native,
        not_tcx,
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
    if let Some(reason) = not_tcx {
        text += &format!("{interface}: a clsact filter, for the kernel has no TCX: {reason}\n");
    }
    if let Some(reason) = not_native {
        text += &format!("{interface}: not native, which is faster: {reason}\n");
    }
    text
}
