//! The table of all metrics.

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Monotonic, with resets to 0.
    Counter,
    /// A value that may go up and down.
    Gauge,
    /// Counts by upper bound of the size.
    Histogram,
}

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The family's name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// The names of its labels. A sample leaves out those without a value.
    pub labels: &'static [&'static str],
    /// The help text: one line, without a full stop.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $kind:ident $name:literal [$($label:literal)*] $help:literal,)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label,)*],
            help: $help,
        };)*

        /// All metrics but `process_...`, those of the process itself.
        pub const METRICS: &[Metric] = &[$($constant,)*];
    };
}

// The kernel's names are values of a label, not parts of metric names: Prometheus's lint (`promtool check metrics`)
// allows no capitals there. `TCPFastOpenPassive` is found by grep either way.
metrics! {
    BUILD_INFO Gauge "tfo_build_info" ["version" "layout"]
        "Always 1; the version of tfo and the layout version of its pins",
    NAMESPACES Gauge "tfo_namespaces" ["state"]
        "Network namespaces of the service: attached, waiting for one or for an interface, or left_out for their number",
    DATAPATH Counter "tfo_datapath_total" ["netns" "interface" "counter"]
        "Counters of the data path; TCPFastOpen... are named as the kernel's",
    KERNEL Counter "tfo_kernel_total" ["netns" "counter"]
        "Counters of the kernel since the namespace was created: rows of TcpExt (nstat -az)",
    DRIFT Gauge "tfo_drift" ["netns" "counter"]
        "The data path's counter minus the kernel's, since an interface was last attached or detached",
    REASONS Counter "tfo_reasons_total" ["netns" "interface" "reason"]
        "SYNs that requested or used Fast Open and did not get it, each counted under one reason",
    SYN_DATA Histogram "tfo_syn_data_bytes" ["netns" "interface"]
        "SYNs with data, by bytes of data",
    PORT Counter "tfo_port_total" ["netns" "interface" "port" "counter"]
        "tfo_datapath_total by destination port, for the configured ports; all others are `other`",
    POLICY_ACTIONS Counter "tfo_policy_actions_total" ["netns" "interface" "port" "action"]
        "SYNs that a policy acted on, by action, for the configured ports; all others are `other`",
    POLICY_CAUSES Counter "tfo_policy_causes_total" ["netns" "interface" "port" "cause"]
        "The same SYNs, by cause",
    DRY_RUN_ACTIONS Counter "tfo_policy_dry_run_actions_total" ["netns" "interface" "port" "action"]
        "SYNs that a policy in dry run would have acted on, by action",
    DRY_RUN_CAUSES Counter "tfo_policy_dry_run_causes_total" ["netns" "interface" "port" "cause"]
        "The same SYNs, by cause",
    POLICY_RULES Gauge "tfo_policy_rules" ["netns"]
        "Rules of the policy in force, including the default rule; 0 without a policy",
    POLICY_DRY_RUN Gauge "tfo_policy_dry_run_rules" ["netns"]
        "Those of them that are a dry run",
    POLICY_PREFIXES Gauge "tfo_policy_list_prefixes" ["netns"]
        "Prefixes on the allow list and the deny list of the policy in force",
    POLICY_WITHHELD Gauge "tfo_policy_withheld_sources" ["netns"]
        "Sources from which cookies are withheld; 0 where no rule withholds them",
    POLICY_REFUSED Gauge "tfo_policy_refused" ["netns"]
        "1 if the configured policy could not be put in force; /healthz has the reason",
    GUARD_SYNS Counter "tfo_guard_syns_total" ["netns" "interface" "port" "reaction"]
        "SYNs to guarded ports, by the guard's reaction, for the configured ports; all others are `other`",
    GUARD_PROOFS Counter "tfo_guard_proofs_total" ["netns" "interface" "port" "result"]
        "ACKs without a connection, by result: accepted or refused by the kernel, with the proof of a challenge; queue_full, with proof, at a full accept queue; wrong, without proof; dropped, those of the wrong ones that were too many",
    GUARD_COOKIES Counter "tfo_guard_cookies_total" ["netns" "interface" "port"]
        "Challenges whose SYN-ACK carried a Fast Open cookie",
    GUARD_RULES Gauge "tfo_guard_rules" ["netns"]
        "Rules of the guard in force, including the default rule; 0 without a guard",
    GUARD_ON Gauge "tfo_guard_on" ["netns" "port" "mode"]
        "1 if the port is guarded now, by rule; `default` is the rule of all other ports",
    GUARD_SWITCHES Counter "tfo_guard_switches_total" ["netns" "port"]
        "Times that the port became guarded, by rule",
    GUARD_SINCE Gauge "tfo_guard_switch_age_seconds" ["netns" "port"]
        "Time since the port last became guarded",
    GUARD_INTERFACE Gauge "tfo_guard_interface" ["netns" "interface"]
        "With a guard in force: 1 if it is attached to the interface, 0 if no SYN is challenged there",
    GUARD_EDGE_TAKEN Gauge "tfo_guard_edge_taken" ["netns" "vip" "port"]
        "On an edge in a farm, by service: 1 if a host takes the answers to challenges, 0 if none does: a rule of the configuration is off then; no sample where no host of the farm has such an address",
    GUARD_EDGE_HOSTS Gauge "tfo_guard_edge_hosts" ["netns" "vip" "port" "verdict"]
        "On an edge in a farm, by service: hosts that take the answers to challenges (takes), and those that do not, by cause: no_rule, other_secret, options, window_scale",
    GUARD_REFUSED Gauge "tfo_guard_refused" ["netns"]
        "1 if the configured guard could not be put in force; /healthz has the reason",
    OWN_COOKIES_REFUSED Gauge "tfo_own_cookies_refused" ["netns"]
        "1 if the configured own cookies could not be put in force; /healthz has the reason",
    LISTENERS_REFUSED Gauge "tfo_listeners_refused" ["netns"]
        "1 if a listener of a configured port could not be given Fast Open; /healthz has the reason",
    ATTACHED Gauge "tfo_interface_attached" ["netns" "interface"]
        "1 if the program is attached to the interface, 0 if it should be and is not",
    INTERFACE Gauge "tfo_interface_info" ["netns" "interface" "mode" "mirror"]
        "Always 1; the attach mode of the program and its mirror",
    SERVER Gauge "tfo_server_enabled" ["netns"]
        "1 if net.ipv4.tcp_fastopen allows Fast Open for listeners (bit 0x2)",
    NO_COOKIE Gauge "tfo_no_cookie_mode" ["netns"]
        "1 if listeners accept data without a cookie (bit 0x200), also from spoofed sources",
    SYSCTL Gauge "tfo_sysctl_tcp_fastopen" ["netns"]
        "The value of net.ipv4.tcp_fastopen",
    KEY_INFO Gauge "tfo_key_info" ["netns" "source" "primary"]
        "Always 1; the source of keys and the fingerprint of the primary key",
    KEY_AGE Gauge "tfo_key_age_seconds" ["netns"]
        "Time since the keys last changed",
    KEY_NEXT Gauge "tfo_key_next_rotation_timestamp_seconds" ["netns"]
        "Time of the next rotation, in seconds since 1970",
    KEYS_AGREE Gauge "tfo_keys_agree" ["netns"]
        "1 if the data path accepts every key of the kernel",
    KEY_ROTATIONS Counter "tfo_key_rotations_total" ["netns"]
        "Changes of keys since the controller started",
    KEY_FAILURES Counter "tfo_key_failures_total" ["netns"]
        "Failed changes of keys, which changed nothing, since the controller started",
    KEY_FOREIGN Counter "tfo_key_foreign_changes_total" ["netns"]
        "Changes of the kernel's keys by others since the controller started",
    FARM_INFO Gauge "tfo_farm_info" ["netns" "host" "prefix"]
        "Always 1; the host's name in its farm and the prefix of the farm's keys in etcd",
    FARM_REACHABLE Gauge "tfo_farm_etcd_reachable" ["netns"]
        "1 if etcd answers; without it, keys stay as they are",
    FARM_ERROR Gauge "tfo_farm_error" ["netns"]
        "1 if the host cannot follow its farm; /healthz has the reason",
    FARM_EPOCH Gauge "tfo_farm_epoch" ["netns"]
        "Number of the key that the farm issues, by the document that this host has stored",
    FARM_PHASE Gauge "tfo_farm_phase" ["netns" "phase"]
        "1 for the phase that the farm is in: activate, steady or stage",
    FARM_ACKNOWLEDGED Gauge "tfo_farm_acknowledged" ["netns"]
        "1 if this host has acknowledged the document as in force",
    FARM_SKEW Gauge "tfo_farm_clock_skew_seconds" ["netns"]
        "This host's clock minus the leader's, when the document last changed",
    FARM_LEADER Gauge "tfo_farm_leader" ["netns"]
        "1 on the leader",
    FARM_MEMBERS Gauge "tfo_farm_members" ["netns"]
        "On the leader: members, which rotations wait for",
    FARM_LATE Gauge "tfo_farm_members_late" ["netns"]
        "On the leader: members that have not acknowledged the document",
    FARM_LEFT Counter "tfo_farm_left_behind_total" ["netns"]
        "Hosts that this one left behind as the leader",
    FARM_IGNORED Counter "tfo_farm_ignored_values_total" ["netns"]
        "Values in etcd that this host ignored or undid: no host of the farm wrote them, or they are old",
    FARM_FAILURES Counter "tfo_farm_failures_total" ["netns"]
        "Failed sessions with etcd since the controller started",
    MAP_ENTRIES Gauge "tfo_map_entries" ["netns" "interface" "map"]
        "Entries in use: ports with counters of their own, sources",
    MAP_ROOM Gauge "tfo_map_entries_limit" ["netns" "interface" "map"]
        "Entries that the map has room for",
    MAP_MEMORY Gauge "tfo_map_memory_bytes" ["netns" "map"]
        "Kernel memory of the maps, as the kernel reports it",
    ASKERS Gauge "tfo_sources_asking_without_using" ["netns" "interface"]
        "Sources that were given three or more cookies and used none",
    EVENTS_LOST Counter "tfo_events_lost_total" ["netns" "interface" "cause"]
        "Events that tfo events did not get: over the rate limit, or no room in the ring buffer",
    READ_TIME Gauge "tfo_read_duration_seconds" ["netns"]
        "Duration of reading the namespace's facts",
    SCRAPE_ERROR Gauge "tfo_scrape_error" ["netns" "part"]
        "1 if this part could not be read and its metrics are missing; /healthz has the reason",
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../../docs/metrics.md");

    #[test]
    fn the_docs_have_the_same_table() {
        let rows: Vec<&str> = DOCS.lines().filter(|it| it.starts_with("| `")).collect();
        let expected = METRICS.iter().map(|metric| {
            let labels: Vec<_> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let Metric { name, help, .. } = metric;
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(rows, expected);
    }
}
