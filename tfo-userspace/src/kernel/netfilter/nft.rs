//! The rule set of nftables, as `nft -j list ruleset` prints it: libnftables-json(5).

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::Value;

use super::rules::{
    ACK, Action, Base, Chain, ESTABLISHED, FIN, Families, Hook, INVALID, Match, NEW, PSH, RELATED,
    RST, Rule, Ruleset, SYN, UNTRACKED, URG,
};

/// Tables of `iptables-nft`, whose own extensions nft shows by their name alone: `ip nat`.
pub(crate) type XtTables = std::collections::BTreeSet<String>;

/// The elements of named sets and maps, by table and name.
type Sets<'a> = BTreeMap<String, &'a [Value]>;

/// Reads the rule set. Gives also the tables with extensions of iptables.
///
/// # Errors
///
/// The text is not a rule set.
pub(crate) fn parse(text: &str) -> Result<(Ruleset, XtTables), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let objects = value["nftables"].as_array().ok_or("no rule set")?;
    let mut ruleset = Ruleset::default();
    let mut xt = XtTables::new();
    let mut sets = Sets::new();
    for object in objects {
        for kind in ["set", "map"] {
            let set = &object[kind];
            if let Some(elements) = set["elem"].as_array() {
                sets.insert(format!("{} {}", table(set), word(&set["name"])), elements);
            }
        }
        let chain = &object["chain"];
        let families = families(word(&chain["family"]));
        if let Some(families) = families {
            ruleset.chains.insert(
                key(chain, word(&chain["name"])),
                Chain {
                    families,
                    base: base(chain),
                    rules: Vec::new(),
                },
            );
        }
    }
    for object in objects {
        let rule = &object["rule"];
        let Some(chain) = ruleset.chains.get_mut(&key(rule, word(&rule["chain"]))) else {
            continue;
        };
        let expressions = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
        if expressions.iter().any(|each| each.get("xt").is_some()) {
            xt.insert(table(rule));
        }
        let reader = Reader {
            table: table(rule),
            sets: &sets,
        };
        let place = format!(
            "{} {}, rule with handle {}",
            table(rule),
            word(&rule["chain"]),
            rule["handle"]
        );
        chain.rules.extend(reader.rules(place, expressions));
    }
    Ok((ruleset, xt))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn table(object: &Value) -> String {
    format!("{} {}", word(&object["family"]), word(&object["table"]))
}

fn key(object: &Value, chain: &str) -> String {
    format!("{} {chain}", table(object))
}

fn families(family: &str) -> Option<Families> {
    match family {
        "ip" => Some(Families::V4),
        "ip6" => Some(Families::V6),
        "inet" => Some(Families::Both),
        // `netdev` chains run before conntrack and translate nothing; `arp` and `bridge` chains see other packets.
        _ => None,
    }
}

fn base(chain: &Value) -> Option<Base> {
    let hook = match chain.get("hook")?.as_str()? {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        _ => Hook::Other,
    };
    Some(Base {
        hook,
        priority: chain["prio"].as_i64().unwrap_or_default() as i32,
        drops: chain["policy"] == "drop",
        translates: chain["type"] == "nat",
    })
}

struct Reader<'a> {
    table: String,
    sets: &'a Sets<'a>,
}

impl Reader<'_> {
    /// The rule, as one for each element of a verdict map in it.
    fn rules(&self, place: String, expressions: &[Value]) -> Vec<Rule> {
        let mut rule = Rule {
            place,
            ..Rule::default()
        };
        let mut rules = Vec::new();
        for expression in expressions {
            let Some((name, body)) = expression.as_object().and_then(|it| it.iter().next()) else {
                rule.matches.push(Match::Unknown);
                continue;
            };
            match name.as_str() {
                "match" => rule.matches.push(self.condition(body)),
                "vmap" => rules.extend(self.verdicts(&rule, body)),
                "dnat" | "redirect" | "tproxy" => {
                    rule.matches
                        .extend(["addr", "port"].iter().filter_map(|part| {
                            let map = body.get(part)?.get("map")?;
                            Some(keys(&map["key"], self.elements(&map["data"])?))
                        }));
                    let names = ["dnat", "redirect", "tproxy"];
                    let name = names.into_iter().find(|each| each == name);
                    rule.actions.extend(name.map(Action::Translate));
                }
                "xt" => xt(body, &mut rule),
                "limit" | "quota" | "connlimit" | "ct count" => rule.matches.push(Match::Unknown),
                _ => rule.actions.extend(self.verdict(expression)),
            }
        }
        rules.push(rule);
        rules
    }

    fn verdict(&self, verdict: &Value) -> Option<Action> {
        let (name, body) = verdict.as_object()?.iter().next()?;
        let target = || format!("{} {}", self.table, word(&body["target"]));
        match name.as_str() {
            "accept" | "queue" => Some(Action::Accept),
            "drop" | "reject" => Some(Action::Drop),
            "return" => Some(Action::Return),
            "notrack" => Some(Action::NoTrack),
            "jump" => Some(Action::Jump(target())),
            "goto" => Some(Action::Goto(target())),
            _ => None,
        }
    }

    /// The rules of a verdict map, each with the matches that `before` has so far.
    fn verdicts(&self, before: &Rule, body: &Value) -> Vec<Rule> {
        let Some(elements) = self.elements(&body["data"]) else {
            return Vec::new();
        };
        let of = |element: &Value| {
            let mut rule = before.clone();
            rule.matches
                .push(keys(&body["key"], std::slice::from_ref(element)));
            rule.actions.extend(self.verdict(&element[1]));
            rule
        };
        elements.iter().map(of).collect()
    }

    /// The elements of a set or map, named or not.
    fn elements<'a>(&'a self, data: &'a Value) -> Option<&'a [Value]> {
        match data.as_str() {
            Some(name) => {
                let name = format!("{} {}", self.table, name.trim_start_matches('@'));
                self.sets.get(&name).copied()
            }
            None => data["set"].as_array().map(Vec::as_slice),
        }
    }

    fn condition(&self, body: &Value) -> Match {
        let (left, right) = (&body["left"], &body["right"]);
        let operator = word(&body["op"]);
        if let Some(operands) = left.get("&").and_then(Value::as_array) {
            let of_flags = field(&operands[0]) == Some(Field::Flags);
            return match (flags(&operands[1]), flags(right), operator) {
                (Some(mask), Some(value), "==" | "!=") if of_flags => Match::Flags {
                    mask,
                    value,
                    equal: operator == "==",
                },
                _ => Match::Unknown,
            };
        }
        if let Some(families) = address(left).filter(|_| operator != "!=") {
            return Match::Address(families);
        }
        let equal = operator != "!=";
        let set = self.elements(right);
        if let Some(elements) = set.filter(|_| equal && left.get("concat").is_some()) {
            return keys(left, elements);
        }
        let values = set.unwrap_or(std::slice::from_ref(right));
        match (field(left), operator) {
            (Some(Field::Flags), "in" | "!") => {
                flags(right).map_or(Match::Unknown, |mask| Match::Flags {
                    mask,
                    value: 0,
                    equal: operator == "!",
                })
            }
            (Some(Field::Flags), "==" | "!=") if set.is_none() => {
                flags(right).map_or(Match::Unknown, |value| Match::Flags {
                    mask: u8::MAX,
                    value,
                    equal,
                })
            }
            (Some(field), "==" | "!=" | "in") if set.is_some() || !is_name(right) => {
                of_field(field, values, equal)
            }
            _ => Match::Unknown,
        }
    }
}

/// The match of a map's key with the keys of these elements.
fn keys(key: &Value, elements: &[Value]) -> Match {
    let first = |element: &Value| match element.as_array() {
        Some(pair) => pair.first().cloned().unwrap_or_default(),
        None => element.clone(),
    };
    let found: Vec<_> = elements.iter().map(first).collect();
    let Some(parts) = key.get("concat").and_then(Value::as_array) else {
        return field(key).map_or(Match::Unknown, |field| of_field(field, &found, true));
    };
    let place = parts
        .iter()
        .position(|part| field(part) == Some(Field::Port));
    let port = |key: &Value| Some(key["concat"].get(place?)?.clone());
    let found: Option<Vec<_>> = found.iter().map(port).collect();
    match found.map(|ports| of_field(Field::Port, &ports, true)) {
        Some(Match::Ports { ranges, .. }) => Match::PortsAndMore { ranges },
        _ => Match::Unknown,
    }
}

/// The families of packets of which it is an address, or the kind of one.
fn address(left: &Value) -> Option<Families> {
    let payload = &left["payload"];
    match (word(&payload["protocol"]), word(&payload["field"])) {
        ("ip", "saddr" | "daddr") => Some(Families::V4),
        ("ip6", "saddr" | "daddr") => Some(Families::V6),
        _ => (left["fib"]["result"] == "type").then_some(Families::Both),
    }
}

/// A set or a variable that is not known.
fn is_name(value: &Value) -> bool {
    word(value).starts_with('@')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Port,
    /// A port of another protocol.
    NotTcp,
    Protocol,
    Flags,
    State,
}

fn field(left: &Value) -> Option<Field> {
    let payload = &left["payload"];
    match (word(&payload["protocol"]), word(&payload["field"])) {
        ("tcp" | "th", "dport") => return Some(Field::Port),
        ("tcp", "flags") => return Some(Field::Flags),
        ("ip", "protocol") | ("ip6", "nexthdr") => return Some(Field::Protocol),
        ("udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6", _) => {
            return Some(Field::NotTcp);
        }
        _ => {}
    }
    if left["meta"]["key"] == "l4proto" {
        return Some(Field::Protocol);
    }
    (left["ct"]["key"] == "state").then_some(Field::State)
}

fn of_field(field: Field, values: &[Value], equal: bool) -> Match {
    match field {
        Field::NotTcp => Match::Never,
        Field::Flags => Match::Unknown,
        Field::Port => {
            let ranges: Option<Vec<_>> = values.iter().map(range).collect();
            ranges.map_or(Match::Unknown, |ranges| Match::Ports { ranges, equal })
        }
        Field::Protocol => {
            let tcp = values.iter().any(|value| value == "tcp" || *value == 6);
            if tcp == equal {
                // One key of a map, or the whole condition.
                Match::Ports {
                    ranges: vec![0..=u16::MAX],
                    equal: true,
                }
            } else {
                Match::Never
            }
        }
        Field::State => {
            let names = values.iter().flat_map(|value| match value.as_array() {
                Some(names) => names.iter().map(word).collect(),
                None => vec![word(value)],
            });
            let states = names.map(state).try_fold(0, |all, one| Some(all | one?));
            states.map_or(Match::Unknown, |states| Match::State { states, equal })
        }
    }
}

pub(super) fn state(name: &str) -> Option<u8> {
    match name.to_ascii_lowercase().as_str() {
        "invalid" => Some(INVALID),
        "established" => Some(ESTABLISHED),
        "related" => Some(RELATED),
        "new" => Some(NEW),
        "untracked" => Some(UNTRACKED),
        _ => None,
    }
}

pub(super) fn flag(name: &str) -> Option<u8> {
    match name.to_ascii_lowercase().as_str() {
        "fin" => Some(FIN),
        "syn" => Some(SYN),
        "rst" => Some(RST),
        "psh" => Some(PSH),
        "ack" => Some(ACK),
        "urg" => Some(URG),
        "ecn" | "ece" => Some(0x40),
        "cwr" => Some(0x80),
        _ => None,
    }
}

fn flags(value: &Value) -> Option<u8> {
    if let Some(number) = value.as_u64() {
        return u8::try_from(number).ok();
    }
    let names = value.as_array().or_else(|| value.get("|")?.as_array());
    match names {
        Some(names) => names.iter().try_fold(0, |all, one| Some(all | flags(one)?)),
        None => flag(value.as_str()?),
    }
}

fn range(value: &Value) -> Option<RangeInclusive<u16>> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        return Some(number(ends.first()?)?..=number(ends.get(1)?)?);
    }
    // An element with a time-out, a counter or a comment.
    let value = value.get("elem").map_or(value, |element| &element["val"]);
    number(value).map(|port| port..=port)
}

/// An extension of iptables, of which nft tells the name alone, or less.
fn xt(body: &Value, rule: &mut Rule) {
    let name = word(&body["name"]);
    match name {
        "DNAT" => rule.actions.push(Action::Translate("DNAT")),
        "REDIRECT" => rule.actions.push(Action::Translate("REDIRECT")),
        "TPROXY" => rule.actions.push(Action::Translate("TPROXY")),
        "NOTRACK" | "CT" => {
            // CT does other things, too.
            rule.matches.push(Match::Unknown);
            rule.actions.push(Action::NoTrack);
        }
        "REJECT" => rule.actions.push(Action::Drop),
        _ if body["type"] == "target" => {}
        _ => rule.matches.push(Match::Unknown),
    }
}

#[cfg(test)]
mod tests;
