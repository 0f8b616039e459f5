//! The result of attaching, as lines for people.

use crate::{
    datapath::{Attached, Ensured, HookChange, HookReason, Kept, ProgramOrigin, Upgraded},
    model::{Decap, Fingerprint},
};

/// A line with the result, and one for each thing that is less than it could be.
pub fn describe_attached(interface: &str, ensured: &Ensured) -> String {
    let upgraded = match ensured {
        Ensured::Attached(it) => return attached(interface, it),
        Ensured::Kept(Kept {
            program,
            kept_sources,
        }) => {
            let mode = program
                .mode
                .map_or_else(String::new, |mode| format!(", {mode} mode"));
            let id = program.program_id;
            let text = format!("{interface}: taken over as it is: program {id}{mode}\n");
            return text
                + &describe_decap(interface, &program.decap)
                + &describe_sources(interface, *kept_sources);
        }
        Ensured::Moved(change) => return describe_hook_change(change) + "\n",
        Ensured::Upgraded(upgraded) => upgraded,
    };
    let Upgraded {
        mode,
        mirror,
        decap,
        not_exact,
        program_id,
        before,
        kept_sources,
    } = upgraded;
    let mut text = format!(
        "{interface}: upgraded in place: program {program_id}, {mode} mode, {mirror} mirror; the one before was {before}\n"
    );
    if let ProgramOrigin::OtherLayout(version) = before {
        text +=
            &format!("{interface}: its counts start anew: they were kept in layout {version}\n");
    }
    if let Some(reason) = not_exact {
        text += &format!("{interface}: packet-level mirror: {reason}\n");
    }
    text + &describe_decap(interface, decap) + &describe_sources(interface, *kept_sources)
}

/// A line about the tunnels that an interface reads through.
fn describe_decap(interface: &str, decap: &Decap) -> String {
    if decap.is_on() {
        format!("{interface}: reads through {decap}\n")
    } else {
        String::new()
    }
}

/// A line about the capacity for sources, where another was asked for.
fn describe_sources(interface: &str, kept: Option<u32>) -> String {
    kept.map_or_else(String::new, |kept| {
        format!(
            "{interface}: keeps at most {kept} sources, as an upgrade keeps their map: `tfo detach {interface}`, then attach, for another number\n"
        )
    })
}

/// A line about a data path that was moved to another hook.
pub fn describe_hook_change(change: &HookChange) -> String {
    let HookChange {
        interface,
        from,
        to,
        reason,
        program_id,
    } = change;
    format!("{interface}: moved from {from} to {to} mode (program {program_id}): {reason}")
}

fn attached(interface: &str, attached: &Attached) -> String {
    let Attached {
        mode,
        reason,
        not_tcx,
        mirror,
        decap,
        not_exact,
        program_id,
        keys,
        removed,
    } = attached;
    let mut text = removed.map_or(String::new(), |id| {
        format!(
            "{interface}: removed program {id} first, which came with it from another network namespace\n"
        )
    });
    text += &format!(
        "{interface}: attached in {mode} mode (program {program_id}), {mirror} mirror, primary key {}\n",
        Fingerprint::of(&keys.primary)
    );
    if let Some(reason) = not_exact {
        text += &format!("{interface}: packet-level mirror: {reason}\n");
    }
    text += &describe_decap(interface, decap);
    if let Some(reason) = not_tcx {
        text += &format!("{interface}: a clsact filter, as the kernel has no TCX: {reason}\n");
    }
    if *reason != HookReason::Asked {
        text += &format!("{interface}: {mode} mode: {reason}\n");
    }
    text
}
