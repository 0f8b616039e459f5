//! The end of a handshake, as the kernel tells: what it teaches of the source's cookies.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::RawTracePointContext};
use tfo_common::{policy::withhold::Sent, switches::Switches};

use crate::{
    kernel::established::Established,
    maps::{policy, switches, withhold},
};

/// The program at the tracepoint of socket states.
#[inline(always)]
pub(crate) fn handshake(ctx: &RawTracePointContext) {
    let switches = switches::load();
    if !switches.has(Switches::WITHHOLDS) {
        return;
    }
    let Some(connection) = Established::of(ctx) else {
        return;
    };
    let Some(rule) = policy::rule(switches, connection.port()) else {
        return;
    };
    let sent = withhold::take_note(&connection);
    // A cookie that works does so at all ports.
    if rule.withhold == 0 && !matches!(sent, Some(Sent::Cookie)) {
        return;
    }
    let prefix = rule.sources.prefix(&connection.addresses);
    let memory = match sent {
        Some(Sent::Asked | Sent::Cookie) => withhold::of_new_source(&prefix),
        None | Some(Sent::Nothing | Sent::Plain) => withhold::of_source(&prefix),
    };
    if let Some(memory) = memory {
        // SAFETY: it only reads a clock. The coarse one is not for programs of this kind before Linux 6.2.
        let now = unsafe { bpf_ktime_get_ns() };
        memory.completed(sent, now, rule.withhold);
    }
}
