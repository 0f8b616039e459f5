//! What came of attaching, in words.

use super::{Attached, Ensured, Upgraded, Whose};
use crate::model::Fingerprint;

impl Attached {
    /// A line, or more where something is not as it could be.
    pub fn describe(&self, interface: &str) -> String {
        let Self {
            mode,
            not_native,
            not_tcx,
            mirror,
            not_exact,
            program_id,
            keys,
        } = self;
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
}

impl Ensured {
    /// As [`Attached::describe`], where something may have been attached already.
    pub fn describe(&self, interface: &str) -> String {
        let upgraded = match self {
            Ensured::Attached(attached) => return attached.describe(interface),
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
            text += &format!(
                "{interface}: its counts start anew: they were kept in layout {version}\n"
            );
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
}
