//! The rules of netfilter in the calling thread's network namespace: nftables, and iptables in both of its forms.
//!
//! The rules are read with the commands that show them: `nft`, `iptables-save`. Whether there are any, the kernel says.

mod hooks;
mod nft;
mod rules;
mod xtables;

use std::{collections::BTreeSet, env, fs, io, process::Command};

use rules::Ruleset;
pub(crate) use rules::{
    ACK, Families, Hook, INVALID, Match, NEW, Packet, Port, SYN, UNTRACKED, Way, is_drop,
};

const TCP_LOOSE: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
/// The directories in which distributions have the commands, after those of the caller's PATH.
const SYSTEM_PATHS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Rules that are in the kernel and could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The rules that are not known, and the reason.
    pub found: String,
    /// The way to read them.
    pub remedy: String,
}

/// The rules of netfilter.
#[derive(Clone, Debug, Default)]
pub struct Netfilter {
    pub(crate) rules: Ruleset,
    /// The rules that `rules` lacks.
    pub unread: Vec<Unread>,
    /// `net.netfilter.nf_conntrack_tcp_loose` is 0: an ACK whose SYN conntrack has not seen is invalid.
    pub strict: bool,
}

impl Netfilter {
    /// Reads the rules in force. Runs commands for it only where the kernel has rules.
    pub fn read() -> Self {
        let mut netfilter = Self {
            strict: fs::read_to_string(TCP_LOOSE).is_ok_and(|text| text.trim() == "0"),
            ..Self::default()
        };
        match hooks::any() {
            Ok(false) => {}
            Ok(true) => netfilter.read_nftables(),
            Err(error) => netfilter.unread.push(Unread {
                found: format!("the kernel does not say whether nftables has rules: {error}"),
                remedy: "run tfo as root".to_owned(),
            }),
        }
        for (tool, list, families) in [
            (
                "iptables",
                "/proc/thread-self/net/ip_tables_names",
                Families::V4,
            ),
            (
                "ip6tables",
                "/proc/thread-self/net/ip6_tables_names",
                Families::V6,
            ),
        ] {
            let tables = fs::read_to_string(list).unwrap_or_default();
            if !tables.trim().is_empty() {
                netfilter.read_legacy(tool, families, &tables);
            }
        }
        netfilter
    }

    /// Rules as `iptables-save` prints them.
    #[cfg(test)]
    pub(crate) fn of_iptables(text: &str) -> Self {
        let mut netfilter = Self::default();
        xtables::parse(text, "iptables-legacy", Families::V4, &mut netfilter.rules);
        netfilter
    }

    fn read_nftables(&mut self) {
        let listed = run("nft", &["-j", "list", "ruleset"]);
        let parsed = listed.and_then(|text| nft::parse(&text).map_err(io::Error::other));
        let xt = match parsed {
            Ok((rules, xt)) => {
                self.rules = rules;
                xt
            }
            Err(error) => {
                self.unread.push(Unread {
                    found: format!(
                        "nftables has rules here, and they cannot be read: nft: {error}"
                    ),
                    remedy: "install nftables, whose command nft shows them".to_owned(),
                });
                return;
            }
        };
        for (tool, family, families) in [
            ("iptables", "ip ", Families::V4),
            ("ip6tables", "ip6 ", Families::V6),
        ] {
            let tables: BTreeSet<_> = xt.iter().filter(|name| name.starts_with(family)).collect();
            if !tables.is_empty() {
                self.read_xt(tool, families, &tables);
            }
        }
    }

    /// Reads tables of `iptables-nft`, of which nft shows only a part.
    fn read_xt(&mut self, tool: &str, families: Families, tables: &BTreeSet<&String>) {
        match save(tool, "nft") {
            Ok(text) => {
                let of_tables = |key: &String| {
                    tables.iter().any(|table| key.starts_with(&format!("{table} ")))
                };
                self.rules.chains.retain(|key, _| !of_tables(key));
                xtables::parse(&text, &format!("{tool}-nft"), families, &mut self.rules);
            }
            Err(error) => self.unread.push(Unread {
                found: format!("nft does not show all conditions of {tool}'s rules here, and {tool}-nft-save cannot: {error}"),
                remedy: "install iptables".to_owned(),
            }),
        }
    }

    fn read_legacy(&mut self, tool: &str, families: Families, tables: &str) {
        match save(tool, "legacy") {
            Ok(text) => xtables::parse(&text, &format!("{tool}-legacy"), families, &mut self.rules),
            Err(error) => {
                let tables = tables.split_whitespace().collect::<Vec<_>>().join(", ");
                self.unread.push(Unread {
                    found: format!(
                        "{tool} (legacy) has the tables {tables} here, and their rules cannot be read: {tool}-legacy-save: {error}"
                    ),
                    remedy: "install iptables".to_owned(),
                });
            }
        }
    }
}

/// The output of `iptables-VARIANT-save`, or of `iptables-save` where that is the variant.
fn save(tool: &str, variant: &str) -> io::Result<String> {
    let named = run(&format!("{tool}-{variant}-save"), &[]);
    if !matches!(&named, Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return named;
    }
    let plain = format!("{tool}-save");
    let is_nft = run(&plain, &["--version"]).map(|version| version.contains("nf_tables"));
    if is_nft.is_ok_and(|is_nft| is_nft == (variant == "nft")) {
        return run(&plain, &[]);
    }
    named
}

/// The standard output of a command.
fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let path = env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:{SYSTEM_PATHS}"))
        .output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotFound, "not installed"),
        _ => error,
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or("no message");
        return Err(io::Error::other(line.to_owned()));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
