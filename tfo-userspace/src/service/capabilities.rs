//! The capabilities of a thread after it has attached.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// A rotation creates a map (`CAP_BPF`) and writes a sysctl of the namespace (`CAP_NET_ADMIN`). Attaching to an
/// interface that appears later, or that a reload adds, takes both and `CAP_PERFMON`, which lets a program read the
/// kernel's sockets.
pub(super) const KEPT: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::PERFMON);

/// As [`keep`], for a thread of the service.
///
/// # Errors
///
/// As [`keep`].
pub(super) fn drop_others() -> io::Result<Vec<String>> {
    keep(KEPT)
}

/// Drops all capabilities of the calling thread but `kept` for good, of programs that it starts and of threads that it starts
/// later. Gives the names of those that are left.
///
/// # Errors
///
/// capset(2) or prctl(2) failed.
pub(super) fn keep(kept: CapabilitySet) -> io::Result<Vec<String>> {
    clear_ambient_capability_set()?;
    let has = capabilities(None)?;
    // Without CAP_SETPCAP the bounding set stays; no_new_privs makes it ineffective.
    if has.effective.contains(CapabilitySet::SETPCAP) {
        for each in CapabilitySet::all().difference(kept).iter() {
            // An older kernel lacks the last of them.
            if capability_is_in_bounding_set(each).unwrap_or(false) {
                remove_capability_from_bounding_set(each)?;
            }
        }
    }
    set_no_new_privs(true)?;
    let left = has.permitted & kept;
    set_capabilities(
        None,
        CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(left
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect())
}
