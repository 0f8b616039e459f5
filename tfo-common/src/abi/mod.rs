//! The interface of program and controller: names, bounds and layouts of maps, constants and programs.
//!
//! [`LAYOUT_VERSION`] is part of the path under which maps are pinned: whoever changes a layout or its meaning raises it,
//! that of [`crate::context::SynContext`] too.

pub mod device;
pub mod events;
pub mod listeners;
pub mod offsets;
pub mod sizes;
pub mod sources;

pub use device::DeviceOffsets;
pub use listeners::ListenerRecord;
pub use offsets::SocketOffsets;

use crate::counters::Counters;

/// The version of all layouts in this module.
pub const LAYOUT_VERSION: u32 = 14;

// Programs.

/// The XDP program that sees every frame.
pub const XDP_PROGRAM: &str = "tfo_xdp";
/// The XDP program that decides about challenges.
pub const XDP_GUARD: &str = "tfo_xdp_guard";
/// The XDP program that sends challenges.
pub const XDP_CHALLENGE: &str = "tfo_xdp_challenge";
/// The XDP program that applies the policy.
pub const XDP_POLICY: &str = "tfo_xdp_policy";
/// The TC program that sees every packet, where there is no XDP.
pub const TC_PROGRAM: &str = "tfo_tc";
/// The TC program that applies the policy.
pub const TC_POLICY: &str = "tfo_tc_policy";
/// The TC program that decides about challenges.
pub const TC_GUARD: &str = "tfo_tc_guard";
/// The TC program that sends challenges.
pub const TC_CHALLENGE: &str = "tfo_tc_challenge";
/// The XDP program that decides about challenges for the hosts behind this one.
pub const XDP_EDGE: &str = "tfo_xdp_edge";
/// The TC program that does.
pub const TC_EDGE: &str = "tfo_tc_edge";
/// The TC program that takes the answers to challenges, in either mode.
pub const TC_ACK: &str = "tfo_tc_ack";
/// The XDP program that translates own cookies.
pub const XDP_TRANSLATE: &str = "tfo_xdp_own";
/// The TC program that translates own cookies.
pub const TC_TRANSLATE: &str = "tfo_tc_own";
/// The TC program that replaces the kernel's cookies by own ones as they leave, in either mode.
pub const TC_EGRESS: &str = "tfo_tc_egress";
/// The program that learns of completed handshakes, at the raw tracepoint [`STATE_TRACEPOINT`]; one for a network namespace.
pub const HANDSHAKES_PROGRAM: &str = "tfo_handshakes";
/// The kernel's tracepoint of changes of a TCP socket's state.
pub const STATE_TRACEPOINT: &str = "inet_sock_set_state";
/// The iterator over listening sockets: [`ListenerRecord`]s.
pub const LISTENERS_PROGRAM: &str = "tfo_listeners";

/// Program array of the XDP programs' tail calls.
pub const XDP_TAIL_CALLS: &str = "XDP_TAIL_CALLS";
/// Program array of the TC programs' tail calls.
pub const TC_TAIL_CALLS: &str = "TC_TAIL_CALLS";
/// Index of the policy's program in a program array.
pub const POLICY_INDEX: u32 = 0;
/// Index of the guard's program in a program array.
pub const GUARD_INDEX: u32 = 1;
/// Index of the challenge's program in a program array.
pub const CHALLENGE_INDEX: u32 = 2;
/// Index of the program for own cookies in a program array.
pub const TRANSLATE_INDEX: u32 = 3;
/// Index of the edge's program in a program array.
pub const EDGE_INDEX: u32 = 4;
/// Entries of a program array.
pub const TAIL_CALLS: usize = 5;

// The kfuncs.

/// `void *bpf_cast_to_kern_ctx(void *)`, since Linux 6.2: a program's context as the kernel's own structure.
pub const CAST_KFUNC: &str = "bpf_cast_to_kern_ctx";
/// Number of the placeholder calls of [`CAST_KFUNC`]; see [`ASSIGN_CALL`].
pub const CAST_CALL: u32 = 1_952_870_242;

/// `int bpf_sk_assign_tcp_reqsk(skb, sk, attributes, size)`, since Linux 6.9.
pub const ASSIGN_KFUNC: &str = "bpf_sk_assign_tcp_reqsk";
/// Number of a placeholder call in [`TC_ACK`], which no helper has: the controller patches in the BTF ID of
/// [`ASSIGN_KFUNC`].
pub const ASSIGN_CALL: u32 = 1_952_870_241;

// Constants, which the controller sets before it loads the object.

/// Not 0, as a u32, where [`ASSIGN_CALL`] was patched.
pub const ASSIGN_PATCHED: &str = "ASSIGN_PATCHED";
/// Not 0, as a u32, where the interface's packets have no Ethernet header.
pub const BARE_PACKETS: &str = "BARE_PACKETS";
/// The [`crate::wire::tunnel::Decap`]: tunnels that the interface reads through.
pub const DECAP: &str = "DECAP";
/// The [`DeviceOffsets`] of the interface.
pub const DEVICE: &str = "DEVICE";
/// The [`SocketOffsets`] of the running kernel.
pub const SOCKET_OFFSETS: &str = "SOCKET_OFFSETS";
/// The [`crate::wire::addresses::PrefixMask`] by which sources are counted.
pub const SOURCE_MASK: &str = "SOURCE_MASK";

// Maps that the interfaces of a network namespace share.

/// Array of maps, 1 entry: the array, of 1 entry, of the [`crate::fastopen::KeySet`] in force.
///
/// The controller changes keys by replacing the inner map: a packet sees the old set or the new one, never half of each.
pub const KEYS: &str = "KEYS";
/// Array of maps, 1 entry: the array, of 1 entry, of the [`crate::fastopen::own::OwnCookies`] in force; empty where there are
/// none. Changed as [`KEYS`] is.
pub const OWN_COOKIES: &str = "OWN_COOKIES";
/// Array by [`crate::fastopen::own::asked_index`]: the [`crate::wire::flow::flow_tag`] of a SYN that met the program which
/// translates own cookies, and may be given one.
pub const OWN_ASKED: &str = "OWN_ASKED";
/// Array, 1 entry: the [`crate::switches::Switches`].
///
/// The controller fills the policy's slot that is not in force, then selects it here: a packet sees the old policy or the new
/// one, never half of each.
pub const SWITCHES: &str = "SWITCHES";
/// Array of maps by slot: a hash from a port as u32 to its [`crate::policy::PortRule`].
pub const POLICY_RULES: &str = "POLICY_RULES";
/// Array of maps by slot: a trie from a prefix of an [`crate::wire::addresses::Address`] to a
/// [`crate::policy::ListEntry`], as u32.
pub const POLICY_LISTS: &str = "POLICY_LISTS";
/// Array of maps by slot: an LRU hash from a [`crate::policy::LimitKey`] to the state of its bucket, a u64.
pub const POLICY_LIMITS: &str = "POLICY_LIMITS";
/// Entries of those maps of maps.
pub const POLICY_SLOTS: usize = 2;
/// Array of maps, 1 entry: an array of a [`crate::policy::once::OnceHead`] and of [`crate::policy::once::OnceLine`]s; empty
/// where no rule has the action `once`. It outlives changes of the policy.
pub const ONCE: &str = "ONCE";
/// `BPF_F_INNER_MAP`: the arrays in [`ONCE`] differ in length. Linux 5.10.
pub const ONCE_INNER_FLAGS: u32 = 1 << 12;
/// Array by [`crate::policy::withhold::Note`]: the note of a SYN whose handshake may teach, a u64. The last entry is their key.
pub const SYN_NOTES: &str = "SYN_NOTES";
/// Array of maps, 1 entry: an LRU hash from a prefix, an [`crate::wire::addresses::Address`], to its
/// [`crate::policy::withhold::SourceState`]. It outlives changes of the policy.
pub const SOURCE_MEMORY: &str = "SOURCE_MEMORY";
/// Entries of the hash in [`SOURCE_MEMORY`].
pub const REMEMBERED_SOURCES: u32 = 16_384;
/// Trie from a prefix of an [`crate::wire::addresses::Address`] to 1, as u32, where the kernel's routing delivers to this
/// host (`RTN_LOCAL`), else to 0.
pub const LOCAL_ROUTES: &str = "LOCAL_ROUTES";
/// Most entries of [`LOCAL_ROUTES`].
pub const MAX_LOCAL_ROUTES: u32 = 65_536;
/// Hash from an [`device::answer_key`] to the index of the device, as u32, by which answers to such frames leave, where it
/// is not the one that they came by: a VLAN device, a bond.
pub const ANSWER_DEVICES: &str = "ANSWER_DEVICES";
/// Most entries of [`ANSWER_DEVICES`].
pub const MAX_ANSWER_DEVICES: u32 = 8192;
/// Array, 1 entry: the [`crate::guard::GuardHead`].
pub const GUARD: &str = "GUARD";
/// Hash from a port as u32 to its [`crate::guard::GuardPort`].
pub const GUARD_PORTS: &str = "GUARD_PORTS";
/// Most ports with a rule of the guard's; most rules of addresses behind this host.
pub const MAX_GUARDED: u32 = 1024;
/// Trie from a prefix of a [`crate::guard::edge::EdgeKey`] to its [`crate::guard::edge::EdgePort`].
pub const GUARD_EDGES: &str = "GUARD_EDGES";
/// Array by [`crate::guard::edge::passed_index`]: the [`crate::guard::edge::passed_tag`] of a SYN for a host behind this one that
/// passed. What is sent again of it passes, too: that host knows it.
pub const EDGE_PASSED: &str = "EDGE_PASSED";
/// Array by [`crate::guard::secret_index`]: secrets, as [`crate::fastopen::Key`].
pub const GUARD_SECRETS: &str = "GUARD_SECRETS";
/// Array by [`crate::guard::source::bucket_index`]: the state of a source's bucket, a u64.
pub const GUARD_BUCKETS: &str = "GUARD_BUCKETS";
/// Key of the default rule in [`POLICY_RULES`] and [`GUARD_PORTS`], for ports without one. No service has port 0.
pub const DEFAULT_PORT: u32 = 0;

/// Names of the maps that the interfaces of a network namespace share.
pub const OF_NAMESPACE: [&str; 18] = [
    KEYS,
    OWN_COOKIES,
    OWN_ASKED,
    LOCAL_ROUTES,
    ANSWER_DEVICES,
    SWITCHES,
    POLICY_RULES,
    POLICY_LISTS,
    POLICY_LIMITS,
    ONCE,
    SYN_NOTES,
    SOURCE_MEMORY,
    GUARD,
    GUARD_PORTS,
    GUARD_EDGES,
    EDGE_PASSED,
    GUARD_SECRETS,
    GUARD_BUCKETS,
];

// Maps of one interface.

/// Per-CPU array, 1 entry: the SYN on its way from one program to the next. Only the program knows its layout; the
/// guard's programs are loaded later than the others, and share it with them.
pub const SYN_CONTEXT: &str = "SYN_CONTEXT";
/// Per-CPU array: one [`PortCounters`] per slot. Slot 0 counts what belongs to no port's slot; the sum over all slots is
/// the sum over all packets.
pub const COUNTERS: &str = "COUNTERS";
/// Slots of [`COUNTERS`], slot 0 among them.
///
/// Ports get a slot at their first SYN. A plain SYN takes one only while less than half of them are taken, so that a port
/// scan leaves room for the ports that speak Fast Open.
pub const COUNTER_SLOTS: u64 = 1024;
/// Array by port: the port's slot in [`COUNTERS`] as a u64, 0 for none.
pub const PORT_SLOTS: &str = "PORT_SLOTS";
/// Number of TCP ports: entries of [`PORT_SLOTS`].
pub const PORTS: usize = 1 << 16;
/// Array, 1 entry: slots of [`COUNTERS`] that were asked for as a u64, slot 0 not among them. It may exceed the number of
/// slots.
pub const SLOTS_TAKEN: &str = "SLOTS_TAKEN";
/// Per-CPU array, 1 entry: the [`sizes::Sizes`] of SYN data.
pub const SIZES: &str = "SIZES";
/// LRU hash from a prefix, an [`crate::wire::addresses::Address`], to its [`sources::SourceCounts`].
pub const SOURCES: &str = "SOURCES";
/// Entries of [`SOURCES`] by default.
pub const DEFAULT_SOURCES: u32 = 16_384;
/// Ring buffer of [`events::Event`].
pub const EVENTS: &str = "EVENTS";
/// Bytes of [`EVENTS`]: 4,096 events of 64 bytes, their headers among them.
pub const EVENT_RING: usize = 256 << 10;
/// Array, 1 entry: the [`events::EventGate`] of the reader of [`EVENTS`].
pub const EVENT_GATE: &str = "EVENT_GATE";
/// Per-CPU array, 1 entry: the [`events::EventBudget`].
pub const EVENT_BUDGET: &str = "EVENT_BUDGET";

/// Names of the maps that every interface has of its own.
pub const OF_INTERFACE: [&str; 9] = [
    SYN_CONTEXT,
    COUNTERS,
    PORT_SLOTS,
    SLOTS_TAKEN,
    SIZES,
    SOURCES,
    EVENTS,
    EVENT_GATE,
    EVENT_BUDGET,
];

/// The counters of one port on one CPU: a value of the map [`COUNTERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortCounters {
    /// The port; 0 where this CPU has counted nothing yet.
    pub port: u64,
    /// The counters of its SYNs.
    pub counters: Counters,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are counters.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortCounters {}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, size_of};

    use super::*;
    use crate::{
        classify::Outcome,
        context::SynContext,
        fastopen::{Key, KeySet},
        guard::{
            GuardHead, GuardPort,
            edge::{EdgeKey, EdgePort},
        },
        policy::{Action, LimitKey, PortRule},
        switches::Switches,
        wire::{
            addresses::{Address, PrefixMask},
            tunnel::Decap,
        },
    };

    use super::{
        events::{Event, EventBudget, EventGate},
        sizes::Sizes,
        sources::SourceCounts,
    };

    /// Another layout is another [`LAYOUT_VERSION`].
    #[test]
    fn layouts_are_pinned() {
        assert_eq!(LAYOUT_VERSION, 14);
        assert_eq!((size_of::<Key>(), align_of::<Key>()), (16, 8));
        assert_eq!((size_of::<KeySet>(), align_of::<KeySet>()), (72, 8));
        assert_eq!(
            (size_of::<PortCounters>(), align_of::<PortCounters>()),
            (648, 8)
        );
        assert_eq!(size_of::<ListenerRecord>(), 56);
        assert_eq!((size_of::<Sizes>(), align_of::<Sizes>()), (128, 8));
        assert_eq!((size_of::<Address>(), align_of::<Address>()), (16, 8));
        assert_eq!(size_of::<SourceCounts>(), 32);
        assert_eq!(size_of::<PrefixMask>(), 32);
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (56, 8));
        assert_eq!(size_of::<EventGate>(), 40);
        assert_eq!(size_of::<EventBudget>(), 24);
        assert_eq!((size_of::<PortRule>(), align_of::<PortRule>()), (144, 8));
        assert_eq!(size_of::<LimitKey>(), 24);
        assert_eq!((size_of::<Switches>(), align_of::<Switches>()), (8, 8));
        assert_eq!(size_of::<SynContext>(), 104);
        assert_eq!(size_of::<GuardHead>(), 40);
        assert_eq!((size_of::<EdgePort>(), align_of::<EdgePort>()), (96, 8));
        assert_eq!((size_of::<EdgeKey>(), align_of::<EdgeKey>()), (24, 4));
        assert_eq!((size_of::<GuardPort>(), align_of::<GuardPort>()), (72, 8));
        assert_eq!(size_of::<DeviceOffsets>(), 48);
        assert_eq!((size_of::<Decap>(), align_of::<Decap>()), (280, 8));
    }

    /// Of enums that are numbers in maps.
    #[test]
    fn numbers_lead_back_to_their_variants() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            assert_eq!(Outcome::from_number(index as u8), outcome);
        }
        assert_eq!(Action::from_number(5), Action::Pass);
        assert_eq!(Action::Fallback.name(), "fallback");
        assert_eq!(Action::from_name("fallback"), Some(Action::Fallback));
        assert_eq!(Action::from_name("Fallback"), None);
    }
}
