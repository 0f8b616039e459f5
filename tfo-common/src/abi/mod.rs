//! What the data path and the controller say to each other: the maps' names, bounds and layouts.
//!
//! [`LAYOUT_VERSION`] is part of the path under which maps are pinned: whoever changes a layout or
//! its meaning raises it.

use crate::counters::Counters;

/// The version of everything in this file and of the types that it holds.
pub const LAYOUT_VERSION: u32 = 3;

/// The XDP program's name in the object.
pub const XDP_PROGRAM: &str = "tfo_xdp";

/// The XDP program that does what a policy says, and the program array, of 3 entries, by which the other one
/// jumps to it.
pub const XDP_POLICY: [&str; 2] = ["tfo_xdp_policy", "XDP_STAGES"];
/// The XDP program that says which SYNs are challenged, where there is a guard.
pub const XDP_GUARD: &str = "tfo_xdp_guard";
/// The XDP program that answers those.
pub const XDP_CHALLENGE: &str = "tfo_xdp_challenge";
/// The TC program that takes the proof of those who were challenged.
pub const TC_GUARD: &str = "tfo_tc_guard";
/// The program's constant that is not 0, as a u32, where [`ASSIGN_CALL`] was replaced.
pub const GUARD_PROVES: &str = "GUARD_PROVES";
/// In [`TC_GUARD`], a call by this number, which no helper has, stands for a call of the kernel's function
/// [`ASSIGN`]: the controller puts its BTF id there.
pub const ASSIGN_CALL: u32 = 1_952_870_241;
/// `int bpf_sk_assign_tcp_reqsk(skb, sk, attributes, size)`, since Linux 6.9.
pub const ASSIGN: &str = "bpf_sk_assign_tcp_reqsk";
/// The places in a program array of the program for policies and of the guard's.
pub const POLICY_STAGE: u32 = 0;
/// See [`POLICY_STAGE`].
pub const GUARD_STAGE: u32 = 1;
/// See [`POLICY_STAGE`].
pub const CHALLENGE_STAGE: u32 = 2;

/// The same in traffic control.
pub const TC_POLICY: [&str; 2] = ["tfo_tc_policy", "TC_STAGES"];

/// Array of maps, 1 entry: the array, of 1 entry, of the [`crate::cookie::KeySet`] in force.
///
/// To change keys, the controller puts another inner map in its place: a packet sees the old set or
/// the new one, never half of each.
pub const KEYS: &str = "KEYS";

/// Per-CPU array: one [`PortCounters`] per slot.
///
/// Slot 0 counts what belongs to no port's slot; the sum over all slots is the sum over all packets.
pub const COUNTERS: &str = "COUNTERS";

/// Array by port: the port's slot in [`COUNTERS`] as a u64, 0 for none.
pub const PORT_SLOTS: &str = "PORT_SLOTS";

/// Array, 1 entry: how many slots of [`COUNTERS`] have been asked for as a u64, slot 0 not among
/// them. It may pass the number of slots that there are.
pub const SLOTS_TAKEN: &str = "SLOTS_TAKEN";

/// Per-CPU array, 1 entry: the [`crate::sizes::Sizes`] of SYN data.
pub const SIZES: &str = "SIZES";

/// LRU hash from a prefix, a [`crate::sources::Address`], to its [`crate::sources::SourceCounts`].
pub const SOURCES: &str = "SOURCES";

/// Entries of [`SOURCES`], where the controller asks for no other number.
pub const DEFAULT_SOURCES: u32 = 16_384;

/// The program's constant with the [`crate::sources::SourceSettings`].
pub const SOURCE_SETTINGS: &str = "SOURCE_SETTINGS";

/// Ring buffer of [`crate::events::Event`].
pub const EVENTS: &str = "EVENTS";

/// Bytes of [`EVENTS`]: 4,096 events of 64 bytes, their headers among them.
pub const EVENT_RING: usize = 256 << 10;

/// Array, 1 entry: the [`crate::events::EventGate`] of who listens to [`EVENTS`].
pub const EVENT_GATE: &str = "EVENT_GATE";

/// Per-CPU array, 1 entry: the [`crate::events::EventBudget`].
pub const EVENT_BUDGET: &str = "EVENT_BUDGET";

/// Array, 1 entry: the [`crate::policy::PolicyHead`] of the policy in force.
///
/// To change a policy, the controller fills the slot that is not in force, and then turns the head: a
/// packet sees the old policy or the new one, never half of each.
pub const POLICY: &str = "POLICY";

/// Array of maps by slot: a hash from a port as u32 to its [`crate::policy::PortRule`]. [`DEFAULT_PORT`] has the
/// rule of all others.
pub const POLICY_RULES: &str = "POLICY_RULES";

/// Array of maps by slot: a trie from a prefix of an [`crate::sources::Address`] to a
/// [`crate::policy::Listed`], as u32.
pub const POLICY_LISTS: &str = "POLICY_LISTS";

/// Array of maps by slot: an LRU hash from a [`crate::policy::LimitKey`] to the state of its bucket, a u64.
pub const POLICY_LIMITS: &str = "POLICY_LIMITS";

/// Slots of those maps of maps.
pub const POLICY_SLOTS: usize = 2;

/// The key in [`POLICY_RULES`] of the rule for ports that have none of their own. No service has port 0.
pub const DEFAULT_PORT: u32 = 0;

/// Per-CPU array, 1 entry: the SYN on its way from one program to the next. The program alone knows what is in it;
/// the guard's programs are loaded later than the others, and share it with them.
pub const CASE: &str = "CASE";
/// Array, 1 entry: the [`crate::guard::GuardHead`].
pub const GUARD: &str = "GUARD";
/// Hash from a port as u32 to its [`crate::guard::GuardPort`]. [`DEFAULT_PORT`] has that of all others.
pub const GUARD_PORTS: &str = "GUARD_PORTS";
/// Most ports that have a rule of the guard's.
pub const MAX_GUARDED: u32 = 1024;
/// Array by [`crate::guard::secret_index`]: secrets, as [`crate::cookie::Key`].
pub const GUARD_SECRETS: &str = "GUARD_SECRETS";
/// Array by [`crate::guard::bucket_index`]: the state of a source's bucket, a u64.
pub const GUARD_BUCKETS: &str = "GUARD_BUCKETS";

/// The maps that all interfaces of a network namespace share.
pub const OF_NAMESPACE: [&str; 9] = [
    KEYS,
    POLICY,
    POLICY_RULES,
    POLICY_LISTS,
    POLICY_LIMITS,
    GUARD,
    GUARD_PORTS,
    GUARD_SECRETS,
    GUARD_BUCKETS,
];

/// The maps that every interface has of its own.
pub const OF_INTERFACE: [&str; 9] = [
    CASE,
    COUNTERS,
    PORT_SLOTS,
    SLOTS_TAKEN,
    SIZES,
    SOURCES,
    EVENTS,
    EVENT_GATE,
    EVENT_BUDGET,
];

/// Number of TCP ports, and so the entries of [`PORT_SLOTS`].
pub const PORTS: usize = 1 << 16;

/// Slots of [`COUNTERS`], slot 0 among them.
///
/// Ports get a slot at their first SYN. A plain SYN takes one only while less than half of them are
/// taken, so that a port scan leaves room for the ports that speak Fast Open.
pub const COUNTER_SLOTS: u64 = 1024;

/// The TC program's name in the object.
pub const TC_PROGRAM: &str = "tfo_tc";

/// The program's constant that is not 0, as a u32, where the interface's packets have no Ethernet header.
pub const BARE_PACKETS: &str = "BARE_PACKETS";

/// The program's constant with the [`SocketOffsets`] of the running kernel.
pub const SOCKET_OFFSETS: &str = "SOCKET_OFFSETS";

/// Where the running kernel keeps what a [`crate::socket::Listener`] holds: bytes from the start of
/// the structure named, by its own BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketOffsets {
    /// 1 where all of these are known, else 0: sockets are then not looked up.
    pub known: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub ack_backlog: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub max_ack_backlog: u32,
    /// `sock.__sk_common.skc_net.net`, pointer.
    pub net: u32,
    /// `net.ipv4.sysctl_tcp_fastopen`, int.
    pub sysctl_fastopen: u32,
    /// `net.ipv4.sysctl_tcp_syncookies`, u8.
    pub sysctl_syncookies: u32,
    /// `inet_connection_sock.icsk_accept_queue.qlen`, int.
    pub syn_queue: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.rskq_rst_head`, pointer.
    pub reset_head: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.qlen`, int.
    pub queue: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.max_qlen`, int.
    pub queue_limit: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.ctx`, pointer.
    pub keys: u32,
    /// `net.ipv4.tcp_fastopen_ctx`, pointer.
    pub host_keys: u32,
    /// `tcp_fastopen_context.key`, two of 16 bytes.
    pub context_key: u32,
    /// `tcp_fastopen_context.num`, int.
    pub context_num: u32,
    /// 1 where the verifier lets no program load a key from there, but has it copied.
    pub copies_keys: u32,
    /// `request_sock.rsk_timer.expires`, unsigned long.
    pub expires: u32,
    /// The byte of `tcp_sock.fastopen_no_cookie`.
    pub no_cookie: u32,
    /// Its bit in that byte, as a mask.
    pub no_cookie_mask: u32,
    /// `tcp_sock.md5sig_info`, pointer; 0 where this kernel knows no TCP-MD5.
    pub md5_keys: u32,
    /// `tcp_sock.ao_info`, pointer; 0 where this kernel knows no TCP-AO.
    pub authentication_keys: u32,
    /// The kernel drops a SYN whose list of options has a fault with so many bytes left, or more; 0 where
    /// it does not mind (before Linux 6.7).
    pub fault_from: u32,
    /// `net.ipv4.sysctl_tcp_timestamps`, u8.
    pub sysctl_timestamps: u32,
    /// `net.ipv4.sysctl_tcp_sack`, u8.
    pub sysctl_sack: u32,
    /// `net.ipv4.sysctl_tcp_window_scaling`, u8.
    pub sysctl_window_scaling: u32,
    /// `net.ipv4.sysctl_tcp_ecn`, u8.
    pub sysctl_ecn: u32,
    /// `sock.sk_rcvbuf`, int.
    pub receive_buffer: u32,
    /// `tcp_sock.is_mptcp`, bool; 0 where this kernel knows no MPTCP.
    pub mptcp: u32,
    /// `inet_timewait_sock.tw_substate`, u8.
    pub substate: u32,
    /// `inet_timewait_sock.__tw_common.skc_tw_rcv_nxt`, u32.
    pub next: u32,
    /// `tcp_timewait_sock.tw_ts_recent`, u32.
    pub clock: u32,
    /// `tcp_timewait_sock.tw_ts_recent_stamp`, int: 0 where there is no clock.
    pub clock_stamp: u32,
    /// 1 where the kernel asks a SYN that opens a connection anew out of `TIME_WAIT` what it asks every other
    /// (before Linux 6.10, by mistake: what was to exempt it got lost on the way).
    pub checks_reopened: u32,
    /// `sock.__sk_common.skc_state`, u8.
    pub state: u32,
    /// `sock.__sk_common.skc_family`, u16.
    pub family: u32,
    /// `sock.__sk_common.skc_num`, u16: the local port, in the host's order.
    pub port: u32,
    /// `sock.__sk_common.skc_rcv_saddr`, 4 bytes: the local address.
    pub ipv4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes: the local address.
    pub ipv6: u32,
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are offsets.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SocketOffsets {}

/// The iterator's name in the object.
pub const LISTENERS_PROGRAM: &str = "tfo_listeners";

/// A listening socket, as the iterator writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerRecord {
    /// The local address as on the wire, in little-endian words: `AF_INET`'s first, or all four.
    pub address: [u32; 4],
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// The local port.
    pub port: u16,
    /// The owner.
    pub uid: u32,
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: u32,
    /// Most Fast Open connections that may be pending; 0 for no Fast Open.
    pub limit: u32,
    /// How many are pending.
    pub queue: u32,
    /// How many keys of its own it has.
    pub keys: u32,
    /// Connections that wait for accept(2).
    pub backlog: u32,
    /// Most that may wait: listen(2)'s argument.
    pub max_backlog: u32,
    /// 1 where it takes data without a cookie.
    pub no_cookie: u32,
    /// Zero.
    pub reserved: u32,
}

/// The counters of one port, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortCounters {
    /// The port, or 0 where this CPU has counted nothing here.
    pub port: u64,
    /// What its SYNs came to.
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
        cookie::{Key, KeySet},
        events::{Event, EventBudget, EventGate},
        guard::{GuardHead, GuardPort},
        policy::{LimitKey, PolicyHead, PortRule},
        sizes::Sizes,
        sources::{Address, SourceCounts, SourceSettings},
    };

    /// Another layout is another [`LAYOUT_VERSION`].
    #[test]
    fn layouts_are_pinned() {
        assert_eq!(LAYOUT_VERSION, 3);
        assert_eq!((size_of::<Key>(), align_of::<Key>()), (16, 8));
        assert_eq!((size_of::<KeySet>(), align_of::<KeySet>()), (72, 8));
        assert_eq!(
            (size_of::<PortCounters>(), align_of::<PortCounters>()),
            (512, 8)
        );
        assert_eq!(size_of::<ListenerRecord>(), 56);
        assert_eq!((size_of::<Sizes>(), align_of::<Sizes>()), (128, 8));
        assert_eq!((size_of::<Address>(), align_of::<Address>()), (16, 8));
        assert_eq!(size_of::<SourceCounts>(), 32);
        assert_eq!(size_of::<SourceSettings>(), 32);
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (56, 8));
        assert_eq!(size_of::<EventGate>(), 40);
        assert_eq!(size_of::<EventBudget>(), 24);
        assert_eq!((size_of::<PortRule>(), align_of::<PortRule>()), (136, 8));
        assert_eq!(size_of::<LimitKey>(), 24);
        assert_eq!((size_of::<PolicyHead>(), align_of::<PolicyHead>()), (8, 8));
        assert_eq!(size_of::<GuardHead>(), 32);
        assert_eq!((size_of::<GuardPort>(), align_of::<GuardPort>()), (56, 8));
    }
}
