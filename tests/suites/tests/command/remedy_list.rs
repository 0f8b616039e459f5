//! Every command in a finding of `tfo doctor`, an error or a note of `tfo`: this list names the test
//! that runs it, or says why none does.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// First words of commands.
const PROGRAMS: [&str; 20] = [
    "ausearch",
    "chattr",
    "chmod",
    "chown",
    "df",
    "dmesg",
    "etcdctl",
    "ethtool",
    "ip",
    "modprobe",
    "mount",
    "nft",
    "openssl",
    "rm",
    "ss",
    "sysctl",
    "systemctl",
    "tfo",
    "ulimit",
    "umount",
];

/// Commands that change something, and the test that runs them. `{}` stands for a value.
const RUN: &[(&str, &str)] = &[
    (
        "chattr -i {}",
        "an_immutable_run_directory_is_told_and_the_remedy_helps",
    ),
    ("chmod 0700 {}", OF_MOUNTS),
    ("chown root {}", OF_PINS),
    ("etcdctl del", OF_JUNK),
    ("etcdctl del {}{}", OF_JUNK),
    ("ethtool -K {} rx on", OF_HOST),
    (
        "ip link set dev {} {}",
        "a_foreign_program_is_removed_as_the_error_says",
    ),
    ("ip link set {} up", OF_HOST),
    ("mount -o remount,rw {}", OF_MOUNTS),
    ("mount -t bpf -o mode=0700 bpf {}", OF_MOUNTS),
    (
        "mount -t proc proc /proc",
        "file_systems_that_are_absent_or_read_only_are_told",
    ),
    (
        "mount -t sysfs sysfs /sys",
        "file_systems_that_are_absent_or_read_only_are_told",
    ),
    ("nft add chain inet tfo_guard {} '{}", OF_NAT),
    ("nft add rule inet tfo_guard {} {} notrack", OF_NAT),
    ("nft add table inet tfo_guard", OF_NAT),
    (
        "nft insert rule {} tcp {} {} ct state untracked accept",
        OF_NAT,
    ),
    ("rm -r {}", OF_PINS),
    ("rm {}", OF_PINS),
    ("sysctl -w net.ipv4.tcp_fastopen={}", OF_HOST),
    ("sysctl -w net.ipv4.tcp_syncookies=1", OF_HOST),
    (
        "sysctl -w user.max_net_namespaces=1024",
        "what_a_user_namespace_lacks_is_told",
    ),
    ("sysctl -w {}=1", "what_no_edge_can_do_is_refused"),
    (
        "tfo --netns {} {}",
        "ip_netns_exec_attaches_nothing_and_its_remedy_does",
    ),
    ("tfo attach", OF_DRIFT),
    ("tfo attach --replace {}", OF_HOST),
    ("tfo attach --replace {} --mode auto", OF_HOST),
    (
        "tfo attach --replace {} --mode tc",
        "native_on_veth_needs_a_program_on_the_peer",
    ),
    ("tfo attach IFACE", OF_HOST),
    ("tfo attach {}", "an_answer_by_another_interface_is_told"),
    ("tfo cookies clear", "switching_loses_no_connection"),
    ("tfo cookies set", "switching_loses_no_connection"),
    ("tfo detach", OF_DRIFT),
    (
        "tfo detach --all",
        "pins_of_an_interface_that_is_gone_are_named",
    ),
    ("tfo detach {}", "detach_removes_it_from_either_namespace"),
    ("tfo disable", "every_listener_of_the_port_is_changed"),
    (
        "tfo doctor --fix --yes",
        "it_says_what_it_would_set_and_sets_it_only_if_told_to",
    ),
    ("tfo enable", "every_listener_of_the_port_is_changed"),
    (
        "tfo enable --port PORT",
        "every_listener_of_the_port_is_changed",
    ),
    (
        "tfo farm init",
        "a_revoked_key_does_not_come_back_by_an_old_document",
    ),
    (
        "tfo farm init --replace",
        "a_revoked_key_does_not_come_back_by_an_old_document",
    ),
    ("tfo guard clear", OF_HOOKS),
    (
        "tfo guard set",
        "another_program_before_the_guards_is_a_problem",
    ),
    ("tfo keys import", OF_HOST),
    ("tfo policy clear", OF_HOOKS),
    (
        "tfo policy set --withhold 1d",
        "the_rule_is_shown_and_ends_with_all_that_it_needs",
    ),
    ("tfo policy set [--port PORT] --dry-run=false", OF_HOST),
    ("tfo run", "a_service_renews_the_guards_secrets"),
    ("ulimit -n 1024", "more_open_files_are_enough"),
];

const OF_DRIFT: &str = "drift_ends_where_clients_arrive_and_the_comparison_starts_anew";
const OF_HOOKS: &str = "a_guard_and_a_dropping_policy_move_to_native_xdp";
const OF_HOST: &str = "each_remedy_removes_what_it_is_for";
const OF_JUNK: &str = "junk_below_the_prefix_is_named_and_stops_nothing";
const OF_MOUNTS: &str = "each_remedy_of_mounts_removes_what_it_is_for";
const OF_NAT: &str = "a_host_with_nat_has_to_exempt_the_port";
const OF_PINS: &str = "a_directory_that_another_user_made_is_refused_with_the_remedy";

/// Commands that only show something, and names of commands.
const SHOWS: &[&str] = &[
    "ausearch -m avc",
    "df -hi {}",
    "dmesg",
    "ip link",
    "ip netns",
    "ip netns exec",
    "ip netns list",
    "ip route",
    "ip route get {}",
    "nft list ruleset",
    "ss -lxtnp",
    "ss -ti",
    "tfo doctor",
    "tfo events",
    "tfo farm",
    "tfo farm status",
    "tfo guard",
    "tfo guard show",
    "tfo listeners",
    "tfo policy",
    "tfo policy show",
    "tfo policy withheld --all",
    "tfo stats",
    "tfo stats --by source",
    "tfo stats --watch 1",
    "tfo status",
    "tfo top",
    "tfo top --json",
];

/// Commands that no test runs as they are printed, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("etcdctl alarm disarm", "it needs an etcd that is full"),
    (
        "etcdctl role grant-permission --prefix=true ROLE readwrite {}",
        "it needs an etcd with users",
    ),
    (
        "ethtool -K {} rxvlan off",
        "of the tests' devices veth alone strips tags before XDP, and there the other end decides it",
    ),
    (
        "ethtool -L {} combined {}",
        "Linux panics on virtio_net with too few queues, so no test sends by XDP there",
    ),
    (
        "ip link add type veth",
        "it loads a module, which is there or built in",
    ),
    (
        "ip link set {} mtu {}",
        "veth has native XDP with frames of any length",
    ),
    ("modprobe af_packet", "the module is there or built in"),
    ("modprobe veth", "the module is there or built in"),
    (
        "sysctl -w net.core.bpf_jit_enable=1",
        "it is the whole machine's, and fixed where CONFIG_BPF_JIT_ALWAYS_ON is set",
    ),
    (
        "tfo attach {}{}",
        "the service attaches again before anyone could",
    ),
    (
        "tfo detach --all{}",
        "as `tfo detach --all`, with --netns as every test has it",
    ),
    (
        "tfo guard set --replies",
        "what value is right depends on the clients",
    ),
    (
        "tfo guard set off --port PORT --secret-file FILE",
        "the tests configure the hosts by their files",
    ),
    (
        "tfo guard set off --port {} --secret-file FILE",
        "the tests configure the hosts by their files",
    ),
    (
        "tfo policy set --valid once",
        "a policy to choose, and no remedy",
    ),
    (
        "tfo {}",
        "it is for the host's own network namespace, which no test changes",
    ),
    ("ulimit -l unlimited", "before Linux 5.11 alone"),
];

/// Where literals are remedies as a whole.
const FINDINGS: [&str; 4] = ["doctor", "guard", "kernel/support.rs", "datapath/pins"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Rust files below a directory, those of unit tests left out.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_tests {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "rs") && !is_tests {
            found.push(path);
        }
    }
    Ok(())
}

/// The string literals of a program, without comments and unit tests.
fn literals(program: &str) -> Vec<String> {
    let (program, _) = program
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((program, ""));
    let lines = program
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let text = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("'\"'", "' '")
        .replace("\\\"", "'");
    let strings = text.split('"').skip(1).step_by(2);
    // A backslash at the end of a line goes on without the next one's indentation.
    let joined = strings.map(|text| {
        let mut parts = text.split("\\\n");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.trim_start())
    });
    joined.collect()
}

/// A command with `{}` for each of its values; `None` for other text.
fn command(text: &str) -> Option<String> {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    // "tfo is not attached" is none.
    let is_text = rest.starts_with(|it: char| !it.is_ascii_alphanumeric() && !"-{".contains(it));
    if !PROGRAMS.contains(&first) || is_text {
        return None;
    }
    let mut shown = String::new();
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                shown += "{}";
            }
            _ if depth == 0 => shown.push(letter),
            _ => {}
        }
    }
    Some(shown)
}

/// The commands in a literal: those in backticks, and of a finding's remedy the whole up to a comma or semicolon.
fn commands(literal: &str, is_finding: bool) -> Vec<String> {
    let quoted = literal.split('`').skip(1).step_by(2);
    let end = [", ", "; ", " here"]
        .iter()
        .filter_map(|end| literal.find(end))
        .min();
    let whole = &literal[..end.unwrap_or(literal.len())];
    let is_command = match whole.strip_prefix("tfo ") {
        Some("run") => true,
        Some(words) => TFO.iter().any(|it| words.starts_with(it)),
        None => whole.contains(' ') && !whole.contains('`'),
    };
    let whole = Some(whole).filter(|_| is_finding && is_command);
    quoted.chain(whole).filter_map(command).collect()
}

/// Words after `tfo` in remedies that are whole literals.
const TFO: [&str; 4] = ["attach ", "detach ", "keys ", "policy "];

/// All commands in the texts of `tfo`.
fn printed() -> Result<BTreeSet<String>> {
    let mut files = Vec::new();
    let own = repository().join("tfo-userspace/src");
    sources(&own, &mut files)?;
    ensure!(files.len() > 100, "{files:?}");
    let mut all = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let inside = file.strip_prefix(&own)?;
        let is_finding = FINDINGS.iter().any(|place| inside.starts_with(place));
        for literal in literals(&text) {
            all.extend(commands(&literal, is_finding));
        }
    }
    Ok(all)
}

#[test]
fn every_command_that_is_printed_is_run_or_said_not_to_be() -> Result<()> {
    let printed = printed()?;
    let run = RUN.iter().map(|(command, _)| *command);
    let not_run = NOT_RUN.iter().map(|(command, _)| *command);
    let listed: Vec<_> = run.chain(SHOWS.iter().copied()).chain(not_run).collect();
    let unlisted: Vec<_> = printed
        .iter()
        .filter(|it| !listed.contains(&it.as_str()))
        .collect();
    ensure!(unlisted.is_empty(), "no test is named for {unlisted:#?}");
    let unprinted: Vec<_> = listed.iter().filter(|it| !printed.contains(**it)).collect();
    ensure!(unprinted.is_empty(), "nothing prints {unprinted:#?}");
    let once: BTreeSet<_> = listed.iter().collect();
    ensure!(once.len() == listed.len(), "a command is listed twice");
    println!(
        "{} commands: {} run, {} that only show, {} not run",
        listed.len(),
        RUN.len(),
        SHOWS.len(),
        NOT_RUN.len()
    );

    let mut files = Vec::new();
    sources(&repository().join("tests/suites/tests"), &mut files)?;
    let texts = files
        .iter()
        .map(fs::read_to_string)
        .collect::<Result<Vec<_>, _>>()?;
    for (command, test) in RUN {
        // A test of one mode, or, by the list behind `in_each_mode!`, of each.
        let of_one = format!("#[test]\nfn {test}(");
        let of_each = format!("\n    {test};\n");
        let is_there = texts.iter().any(|text| {
            let list = text.split_once("\nin_each_mode! {");
            text.contains(&of_one) || list.is_some_and(|(_, list)| list.contains(&of_each))
        });
        ensure!(is_there, "{command}: there is no test {test}");
    }
    Ok(())
}
