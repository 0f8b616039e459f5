//! The rules of iptables, as `iptables-save` prints them: iptables(8), iptables-extensions(8).

use std::{iter::Peekable, ops::RangeInclusive, str::SplitWhitespace};

use super::{
    nft,
    rules::{Action, Base, Chain, Families, Hook, Match, Rule, Ruleset},
};

/// Adds the rules of `text` to `ruleset`. `tool` says whose they are, such as `iptables-legacy`.
pub(crate) fn parse(text: &str, tool: &str, families: Families, ruleset: &mut Ruleset) {
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let name = words.next().unwrap_or_default();
            let base = base(table, name, words.next() == Some("DROP"));
            let chain = Chain {
                families,
                base,
                rules: Vec::new(),
            };
            ruleset.chains.insert(key(tool, table, name), chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = rule.split_whitespace();
            let key = key(tool, table, words.next().unwrap_or_default());
            if let Some(chain) = ruleset.chains.get_mut(&key) {
                let place = format!("{tool} -t {table} {line}");
                chain.rules.push(read(place, words, |target| {
                    format!("{tool} -t {table} {target}")
                }));
            }
        }
    }
}

fn key(tool: &str, table: &str, chain: &str) -> String {
    format!("{tool} -t {table} {chain}")
}

fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "OUTPUT" => Hook::Output,
        "FORWARD" => Hook::Forward,
        "POSTROUTING" => Hook::Other,
        _ => return None,
    };
    // `enum nf_ip_hook_priorities`.
    let priority = match table {
        "raw" => -300,
        "mangle" => -150,
        "nat" => -100,
        _ => 0,
    };
    Some(Base {
        hook,
        priority,
        drops,
        translates: table == "nat",
    })
}

fn read(place: String, words: SplitWhitespace<'_>, key: impl Fn(&str) -> String) -> Rule {
    let mut rule = Rule {
        place,
        ..Rule::default()
    };
    let mut words = words.peekable();
    let mut equal = true;
    while let Some(word) = words.next() {
        if word == "!" {
            equal = false;
            continue;
        }
        match word {
            "-p" | "--protocol" => {
                let tcp = matches!(words.next(), Some("tcp" | "all" | "6" | "0"));
                if tcp != equal {
                    rule.matches.push(Match::Never);
                }
            }
            "-m" | "--match" => {
                // Modules of which every condition is read below, or is one of its own.
                let module = words.next().unwrap_or_default();
                if matches!(
                    module,
                    "statistic" | "limit" | "hashlimit" | "recent" | "set" | "socket"
                ) {
                    rule.matches.push(Match::Unknown);
                }
            }
            "--dport" | "--dports" | "--destination-port" => {
                rule.matches.push(ports(words.next(), equal));
            }
            "--tcp-flags" => rule.matches.push(flags(words.next(), words.next(), equal)),
            "--ctstate" | "--state" => rule.matches.push(states(words.next(), equal)),
            "-j" => {
                rule.actions
                    .extend(target(&mut words, &key, &mut rule.matches));
                break;
            }
            "-g" => {
                rule.actions
                    .extend(words.next().map(|name| Action::Goto(key(name))));
                break;
            }
            "-s" | "-d" | "--dst-type" if equal => {
                words.next();
                rule.matches.push(Match::Address(Families::Both));
            }
            // An option that is not read, such as -i; its values go by here, too.
            option if option.starts_with('-') && option != "--comment" => {
                rule.matches.push(Match::Unknown);
            }
            _ => {}
        }
        equal = true;
    }
    rule
}

fn ports(text: Option<&str>, equal: bool) -> Match {
    let range = |part: &str| -> Option<RangeInclusive<u16>> {
        match part.split_once(':') {
            Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
            None => part.parse().ok().map(|port: u16| port..=port),
        }
    };
    let ranges: Option<Vec<_>> = text.unwrap_or_default().split(',').map(range).collect();
    ranges.map_or(Match::Unknown, |ranges| Match::Ports { ranges, equal })
}

fn flags(mask: Option<&str>, value: Option<&str>, equal: bool) -> Match {
    let bits = |text: Option<&str>| match text? {
        "NONE" => Some(0),
        "ALL" => Some(0x3f),
        names => names
            .split(',')
            .try_fold(0, |all, one| Some(all | nft::flag(one)?)),
    };
    match (bits(mask), bits(value)) {
        (Some(mask), Some(value)) => Match::Flags { mask, value, equal },
        _ => Match::Unknown,
    }
}

fn states(text: Option<&str>, equal: bool) -> Match {
    let names = text.unwrap_or_default().split(',');
    let states = names
        .map(nft::state)
        .try_fold(0, |all, one| Some(all | one?));
    // DNAT and SNAT are states, too.
    states.map_or(Match::Unknown, |states| Match::State { states, equal })
}

fn target(
    words: &mut Peekable<SplitWhitespace<'_>>,
    key: &impl Fn(&str) -> String,
    matches: &mut Vec<Match>,
) -> Option<Action> {
    match words.next()? {
        "ACCEPT" | "NFQUEUE" | "QUEUE" => Some(Action::Accept),
        "DROP" | "REJECT" => Some(Action::Drop),
        "RETURN" => Some(Action::Return),
        "DNAT" => Some(Action::Translate("DNAT")),
        "REDIRECT" => Some(Action::Translate("REDIRECT")),
        "TPROXY" => Some(Action::Translate("TPROXY")),
        "NETMAP" => Some(Action::Translate("NETMAP")),
        "NOTRACK" => Some(Action::NoTrack),
        "CT" => words
            .any(|word| word == "--notrack")
            .then_some(Action::NoTrack),
        // Not a chain, and not an end.
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CLASSIFY" | "SET" => None,
        "SYNPROXY" => {
            matches.push(Match::Unknown);
            Some(Action::Drop)
        }
        chain => Some(Action::Jump(key(chain))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netfilter::rules::{ACK, INVALID, NEW, Packet, Port, SYN, Way};

    /// As `iptables-save` 1.8.9 prints it.
    const TEXT: &str = "\
# Generated by iptables-save v1.8.9
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 445 -j CT --notrack
-A PREROUTING -p tcp -m tcp --dport 444 -j NOTRACK
COMMIT
*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP
-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 3128 -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0xffffffff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -p tcp -m multiport --dports 80,81,1000:2000 -j REDIRECT --to-ports 1234
-A PREROUTING -p udp -m udp --dport 53 -j REDIRECT --to-ports 53
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
";

    fn way(port: u16, flags: u8, state: u8) -> Way {
        let mut ruleset = Ruleset::default();
        parse(TEXT, "iptables", Families::V4, &mut ruleset);
        ruleset.way(Packet {
            family: Families::V4,
            port: Port::Is(port),
            flags,
            state,
            hook: Hook::Input,
        })
    }

    #[test]
    fn translations_are_found_by_port() {
        for (port, kind) in [
            (8080, Some("DNAT")),
            (1500, Some("REDIRECT")),
            (81, Some("REDIRECT")),
            (3128, Some("TPROXY")),
            (443, None),
            (53, None),
        ] {
            let found = way(port, SYN, NEW).translated;
            let kinds: Vec<_> = found.iter().map(|(_, kind)| *kind).collect();
            assert_eq!(kinds, kind.as_slice(), "{port}");
        }
        let found = way(8080, SYN, NEW).translated;
        let (place, _) = found.first().unwrap();
        assert_eq!(
            place,
            "iptables -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"
        );
    }

    #[test]
    fn drops_by_state_are_found() {
        assert!(way(443, SYN, NEW).dropped.is_empty());
        assert_eq!(way(443, ACK, INVALID).dropped.len(), 1);
        assert_eq!(way(443, ACK, NEW).dropped.len(), 1);
        // Nothing accepts a new connection there.
        assert_eq!(way(22, SYN, NEW).dropped.len(), 1);
        assert!(way(444, ACK, NEW).untracked && way(445, ACK, NEW).untracked);
        assert!(!way(443, ACK, NEW).untracked);
    }
}
