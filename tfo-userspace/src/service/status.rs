//! The status line, for `systemctl status`.

use std::fmt::Write as _;

use super::netns::{Keeper, SectionStatus, Status};

/// The status of the service's own namespace, then of each section's.
pub(super) fn line(own: Option<&Status>, keeper: &Keeper) -> String {
    let mut parts: Vec<_> = own.into_iter().map(describe).collect();
    for (name, status) in keeper.statuses() {
        parts.push(match status {
            SectionStatus::Absent => format!("{name}: no namespace"),
            SectionStatus::Exact(status) => format!("{name}: {}", describe(&status)),
            SectionStatus::Pattern { attached, waiting } => {
                let mut part = format!("{name}: {attached} attached");
                if waiting > 0 {
                    let _ = write!(part, ", {waiting} not");
                }
                part
            }
        });
    }
    if keeper.left_out() > 0 {
        parts.push(format!("{} left out", keeper.left_out()));
    }
    parts.join("; ")
}

fn describe(status: &Status) -> String {
    let mut line = format!("{} attached", status.attached.join(" "));
    if !status.missing.is_empty() {
        let _ = write!(line, ", {} not", status.missing.join(" "));
    }
    let _ = write!(line, ", {} keys", status.source);
    if let Some(primary) = &status.primary {
        let _ = write!(line, " (primary {primary})");
    }
    if status.key_error {
        line.push_str(" with an error");
    }
    line
}
