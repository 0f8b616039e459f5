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
        "1; the version of tfo, and of the layout of what it pins",
    DATAPATH Counter "tfo_datapath_total" ["netns" "interface" "counter"]
        "What the data path counted, by counter; TCPFastOpen... as the kernel names them",
    KERNEL Counter "tfo_kernel_total" ["netns" "counter"]
        "What the kernel counted since it made the namespace: rows of TcpExt (nstat -az)",
    DRIFT Gauge "tfo_drift" ["netns" "counter"]
        "The data path's counter less the kernel's, since an interface was last attached or detached",
    REASONS Counter "tfo_reasons_total" ["netns" "interface" "reason"]
        "SYNs that asked for or carried Fast Open and did not get it, each under one reason",
    SYN_DATA Histogram "tfo_syn_data_bytes" ["netns" "interface"]
        "SYNs with data, by how many bytes of it they have",
    PORT Counter "tfo_port_total" ["netns" "interface" "port" "counter"]
        "tfo_datapath_total by destination port, for the ports asked for; the others are `other`",
    POLICY_ACTIONS Counter "tfo_policy_actions_total" ["netns" "interface" "port" "action"]
        "SYNs that policies acted on, by what was done, at the ports asked for; the others are `other`",
    POLICY_CAUSES Counter "tfo_policy_causes_total" ["netns" "interface" "port" "cause"]
        "The same SYNs, by why it was done",
    DRY_RUN_ACTIONS Counter "tfo_policy_dry_run_actions_total" ["netns" "interface" "port" "action"]
        "SYNs that policies would have acted on, had they not been a dry run, by what would have been done",
    DRY_RUN_CAUSES Counter "tfo_policy_dry_run_causes_total" ["netns" "interface" "port" "cause"]
        "The same SYNs, by why it would have been done",
    POLICY_RULES Gauge "tfo_policy_rules" ["netns"]
        "Rules of the policy in force, that of all other ports included; 0 where there is no policy",
    POLICY_DRY_RUN Gauge "tfo_policy_dry_run_rules" ["netns"]
        "Those of them that only count what they would do",
    POLICY_PREFIXES Gauge "tfo_policy_list_prefixes" ["netns"]
        "Prefixes on the allow list and the deny list of the policy in force",
    POLICY_REFUSED Gauge "tfo_policy_refused" ["netns"]
        "1 where the policy of the configuration could not be put in force; /healthz says why",
    GUARD_SYNS Counter "tfo_guard_syns_total" ["netns" "interface" "port" "reaction"]
        "SYNs to guarded ports, by what became of them, at the ports asked for; the others are `other`",
    GUARD_PROOFS Counter "tfo_guard_proofs_total" ["netns" "interface" "port" "result"]
        "ACKs of no connection: a challenge's proof that opened one (accepted), without it (wrong), or refused by the kernel",
    GUARD_COOKIES Counter "tfo_guard_cookies_total" ["netns" "interface" "port"]
        "Challenges that handed out a Fast Open cookie",
    GUARD_RULES Gauge "tfo_guard_rules" ["netns"]
        "Rules of the guard in force, that of all other ports included; 0 where there is no guard",
    GUARD_ON Gauge "tfo_guard_on" ["netns" "port" "mode"]
        "1 where a port is guarded at this moment, by rule: `default` is that of all others",
    GUARD_SWITCHES Counter "tfo_guard_switches_total" ["netns" "port"]
        "Times that a port came to be guarded, by rule",
    GUARD_SINCE Gauge "tfo_guard_switch_age_seconds" ["netns" "port"]
        "How long ago the port last came to be guarded, if it ever did",
    GUARD_INTERFACE Gauge "tfo_guard_interface" ["netns" "interface"]
        "Where there is a guard: 1 where the interface has it, 0 where every SYN meets the kernel",
    GUARD_REFUSED Gauge "tfo_guard_refused" ["netns"]
        "1 where the guard of the configuration could not be put in force; /healthz says why",
    ATTACHED Gauge "tfo_interface_attached" ["netns" "interface"]
        "1 where the program runs on the interface, 0 where it was to and does not",
    INTERFACE Gauge "tfo_interface_info" ["netns" "interface" "mode" "mirror"]
        "1; how the program runs on the interface, and how closely it follows the kernel",
    SERVER Gauge "tfo_server_enabled" ["netns"]
        "1 where net.ipv4.tcp_fastopen lets listeners take Fast Open (bit 0x2)",
    NO_COOKIE Gauge "tfo_no_cookie_mode" ["netns"]
        "1 where listeners take data without a cookie (bit 0x200), from forged sources too",
    SYSCTL Gauge "tfo_sysctl_tcp_fastopen" ["netns"]
        "The value of net.ipv4.tcp_fastopen",
    KEY_INFO Gauge "tfo_key_info" ["netns" "source" "primary"]
        "1; where keys come from, and the fingerprint of the key that makes the cookies",
    KEY_AGE Gauge "tfo_key_age_seconds" ["netns"]
        "How long ago the keys last changed",
    KEY_NEXT Gauge "tfo_key_next_rotation_timestamp_seconds" ["netns"]
        "When the next key is due, in seconds since 1970",
    KEYS_AGREE Gauge "tfo_keys_agree" ["netns"]
        "1 where the data path accepts every key that the kernel has",
    KEY_ROTATIONS Counter "tfo_key_rotations_total" ["netns"]
        "Changes of keys that came into force since the controller began",
    KEY_FAILURES Counter "tfo_key_failures_total" ["netns"]
        "Changes of keys that failed, and changed nothing, since the controller began",
    KEY_FOREIGN Counter "tfo_key_foreign_changes_total" ["netns"]
        "Changes of the kernel's keys by someone else, since the controller began",
    FARM_INFO Gauge "tfo_farm_info" ["netns" "host" "prefix"]
        "1; what this host is called in its farm, and where the farm's keys are in etcd",
    FARM_REACHABLE Gauge "tfo_farm_etcd_reachable" ["netns"]
        "1 where etcd answers; without it, keys stay as they are",
    FARM_ERROR Gauge "tfo_farm_error" ["netns"]
        "1 where something keeps the host from its farm; /healthz says what",
    FARM_EPOCH Gauge "tfo_farm_epoch" ["netns"]
        "The number of the key that the farm issues, by the document that this host goes by",
    FARM_PHASE Gauge "tfo_farm_phase" ["netns" "phase"]
        "1 for the phase that the farm is in: activate, steady or stage",
    FARM_ACKNOWLEDGED Gauge "tfo_farm_acknowledged" ["netns"]
        "1 where this host has in force what the document says, and etcd knows it",
    FARM_SKEW Gauge "tfo_farm_clock_skew_seconds" ["netns"]
        "This host's clock less that of the leader, when the document last changed",
    FARM_LEADER Gauge "tfo_farm_leader" ["netns"]
        "1 on the host that leads",
    FARM_MEMBERS Gauge "tfo_farm_members" ["netns"]
        "On the leader: hosts that rotations wait for",
    FARM_LATE Gauge "tfo_farm_members_late" ["netns"]
        "On the leader: those that have yet to acknowledge",
    FARM_LEFT Counter "tfo_farm_left_behind_total" ["netns"]
        "Hosts that this one, as the leader, went on without",
    FARM_FAILURES Counter "tfo_farm_failures_total" ["netns"]
        "Times that etcd could not be used, since the controller began",
    MAP_ENTRIES Gauge "tfo_map_entries" ["netns" "interface" "map"]
        "Places that are taken: ports that are counted apart, sources that are kept",
    MAP_ROOM Gauge "tfo_map_entries_limit" ["netns" "interface" "map"]
        "Places that there are",
    MAP_MEMORY Gauge "tfo_map_memory_bytes" ["netns" "map"]
        "Kernel memory of the maps, by the kernel's own account",
    ASKERS Gauge "tfo_sources_asking_without_using" ["netns" "interface"]
        "Sources that were given three cookies or more and used none",
    EVENTS_LOST Counter "tfo_events_lost_total" ["netns" "interface" "cause"]
        "Events that tfo events was not told: over its rate, or no room in the ring",
    READ_TIME Gauge "tfo_read_duration_seconds" ["netns"]
        "How long it took to read what the namespace says",
    SCRAPE_ERROR Gauge "tfo_scrape_error" ["netns" "part"]
        "1 where this part could not be read, and its metrics are missing; /healthz says why",
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
