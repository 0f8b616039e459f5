//! The parts of man pages that the definition of the command line does not have.

/// Exit status and its meaning.
pub(crate) const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    (
        "1",
        "Failed. One line on standard error names the thing, the cause and the remedy; -v adds the causes below it.",
    ),
    ("2", "Wrong usage."),
    (
        "3",
        "The check found something: stats --check drift, doctor a warning or a problem, demo counters that differ, farm status a host that is not well, probe a problem.",
    ),
];

/// Files and what they hold.
pub(crate) const FILES: [(&str, &str); 5] = [
    (
        "/etc/tfo/tfo.toml",
        "The configuration of the service: tfo.toml(5).",
    ),
    (
        "/etc/sysctl.d/99-tfo.conf",
        "The sysctls that tfo doctor --fix --yes has set.",
    ),
    (
        "/sys/fs/bpf/tfo/",
        "The pinned programs and maps, a directory for each network namespace. They outlive the command.",
    ),
    (
        "/run/tfo/",
        "The lock of each service, with its process id, and what status shows of the farm.",
    ),
    (
        "/var/lib/tfo/",
        "The farm's keys that this host has in force.",
    ),
];

/// Examples by the page's name.
pub(crate) const EXAMPLES: [(&str, &[(&str, &str)]); 16] = [
    (
        "tfo",
        &[
            ("tfo attach eth0", "Count the SYNs of an interface."),
            (
                "tfo stats",
                "See how many had their data taken, and why not the others.",
            ),
            ("tfo doctor", "Find what keeps Fast Open from working."),
        ],
    ),
    (
        "tfo-attach",
        &[
            ("tfo attach eth0 eth1", "Attach to two interfaces."),
            (
                "tfo attach --netns blue eth0",
                "Attach in a network namespace.",
            ),
            (
                "tfo attach --replace eth0",
                "Put this build's program in place of an older one's.",
            ),
        ],
    ),
    (
        "tfo-detach",
        &[(
            "tfo detach --all",
            "Detach everywhere in this network namespace.",
        )],
    ),
    (
        "tfo-stats",
        &[
            (
                "tfo stats --by port --top 5",
                "Show the five busiest ports.",
            ),
            (
                "tfo stats --check",
                "Compare with the kernel, for a script.",
            ),
            ("tfo stats --watch 10", "Print rates every 10 seconds."),
        ],
    ),
    (
        "tfo-events",
        &[
            (
                "tfo events --port 443 --reason bad-cookie",
                "Show who comes with a stale cookie.",
            ),
            (
                "tfo events --json --count 10",
                "Print ten events for a script.",
            ),
        ],
    ),
    (
        "tfo-doctor",
        &[
            ("tfo doctor eth0", "Check one interface and the host."),
            (
                "tfo doctor --fix",
                "Print which sysctls tfo would set; with --yes it sets them, and keeps them for the next boot.",
            ),
        ],
    ),
    (
        "tfo-keys-set",
        &[(
            "tfo keys set --file /etc/tfo/keys",
            "Put the keys of a file in force.",
        )],
    ),
    (
        "tfo-policy-set",
        &[
            (
                "tfo policy set --port 443 --bad drop --dry-run",
                "Count what dropping SYNs with a bad cookie would do.",
            ),
            (
                "tfo policy set --deny /etc/tfo/deny --denied drop",
                "Drop SYNs of listed sources.",
            ),
        ],
    ),
    (
        "tfo-guard-set",
        &[(
            "tfo guard set auto --port 443 --above 1000/s",
            "Guard a port while it is flooded.",
        )],
    ),
    (
        "tfo-farm-rotate",
        &[("tfo farm rotate", "Rotate the keys of all hosts.")],
    ),
    (
        "tfo-enable",
        &[
            (
                "tfo enable --port 443",
                "Turn Fast Open on for every listener of a port.",
            ),
            (
                "tfo enable --port 8080 --process node --queue 1024",
                "For those of one program, with a longer queue.",
            ),
        ],
    ),
    (
        "tfo-disable",
        &[("tfo disable --port 443", "Turn it off again.")],
    ),
    (
        "tfo-probe",
        &[
            ("tfo probe example.org", "Probe port 443 of a server."),
            (
                "tfo probe [2001:db8::1]:80 --count 20 --json",
                "See more of the servers behind one address, for a script.",
            ),
        ],
    ),
    (
        "tfo-demo",
        &[(
            "tfo demo",
            "See cookies, data in SYNs and key changes, between two hosts that exist meanwhile.",
        )],
    ),
    (
        "tfo-top",
        &[
            (
                "tfo top --interval 2s",
                "Read the counters every two seconds.",
            ),
            (
                "tfo top --json --interval 10s --count 6",
                "Print rates for a minute, for a script.",
            ),
        ],
    ),
    (
        "tfo-run",
        &[
            (
                "tfo run -i eth0 --metrics",
                "Rotate keys daily, and serve metrics on port 9733.",
            ),
            (
                "tfo run -c /etc/tfo/tfo.toml",
                "Run with a configuration file.",
            ),
        ],
    ),
];
