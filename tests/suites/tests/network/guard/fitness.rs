//! Settings of the host in which the guard cannot work: what `tfo guard set` refuses, and what helps. But for native XDP on
//! veth, the mode plays no part in it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    netns::Netns,
    process::{self, ensure_says},
    testbed::Testbed,
    tfo::{self, LIMIT, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp::{Mode, Other},
};

use super::testbed::GuardTestbed;

/// A port at which nothing listens.
const PORT: &str = "443";

/// Sets the rules of nftables in `netns`, in place of all others.
pub(crate) fn set_rules(netns: &Netns, rules: &str) -> Result<()> {
    netns
        .done("nft", &[&format!("flush ruleset; {rules}")])
        .map(drop)
}

/// Runs `tfo guard set on` for [`PORT`].
fn set(tfo: &Tfo, flags: &[&str]) -> Result<process::Output> {
    tfo.run(&[&["guard", "set", "on", "--port", PORT][..], flags].concat())
}

/// The doctor's finding of a check; `None` where there is none.
pub(crate) fn finding(tfo: &Tfo, check: &str) -> Result<Option<Value>> {
    let output = tfo.run(&["doctor", "--json"])?;
    let found: Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let findings = found["findings"].as_array().context("no findings")?;
    Ok(findings.iter().find(|each| each["check"] == check).cloned())
}

/// The commands that a refusal prints.
pub(crate) fn printed(refused: &process::Output) -> Vec<&str> {
    let lines = refused.stderr.lines();
    lines.filter_map(|line| line.strip_prefix("  ")).collect()
}

/// A refusal of which commands are a part, so that it has several lines.
pub(crate) fn ensure_refuses(said: &process::Output, parts: &[&str]) -> Result<()> {
    ensure!(said.status.code() == Some(1), "{said:?}");
    ensure_says(&said.stderr, parts)
}

/// Fails unless the doctor calls this a problem with this text.
fn ensure_problem(tfo: &Tfo, check: &str, says: &str) -> Result<()> {
    let found = finding(tfo, check)?.with_context(|| format!("no finding of {check}"))?;
    let text = found["found"].as_str().unwrap_or_default();
    ensure!(
        found["verdict"] == "problem" && text.contains(says) && found["remedy"].is_string(),
        "{says:?} is not in {found:#}"
    );
    Ok(())
}

/// Rules of a chain at prerouting of type nat, and whether they concern [`PORT`].
const TRANSLATIONS: [(&str, bool); 12] = [
    ("tcp dport 443 dnat ip to 10.9.9.9", true),
    ("tcp dport 80 dnat ip to 10.9.9.9", false),
    ("tcp dport 400-500 redirect to :8443", true),
    ("tcp dport { 80, 443 } redirect to :8443", true),
    ("tcp dport { 80, 8443 } redirect to :8443", false),
    ("tcp dport != 22 redirect to :8443", true),
    ("dnat ip to tcp dport map { 443 : 10.9.9.9 }", true),
    ("dnat ip to tcp dport map { 80 : 10.9.9.9 }", false),
    ("dnat ip6 to fd99::9", true),
    ("udp dport 443 dnat ip to 10.9.9.9", false),
    (
        "tcp dport 443 accept; tcp dport 1-1000 redirect to :8443",
        false,
    ),
    (
        "ip daddr . tcp dport vmap { 10.77.0.1 . 443 : jump to9 }",
        true,
    ),
];

#[test]
fn nat_of_a_guarded_port_is_refused() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    let table = |rules: &str| {
        format!(
            "table inet t {{ chain to9 {{ ip protocol tcp dnat ip to 10.9.9.9; }}; \
             chain pre {{ type nat hook prerouting priority dstnat; {rules}; }}; }}"
        )
    };
    for (rules, concerned) in TRANSLATIONS {
        set_rules(&pair.server, &table(rules)).context(rules)?;
        let said = set(tfo, &[])?;
        if concerned {
            ensure_refuses(&said, &["port 443", "inet t ", "proxy", "(", "--force"])
                .context(rules)?;
            continue;
        }
        // The host has NAT, of other ports.
        ensure_refuses(&said, &["port 443", "translates addresses"]).context(rules)?;
        ensure!(!said.stderr.contains("proxy"), "{rules}: {said:?}");
        type_in(&pair.server, &printed(&said))?;
        let said = set(tfo, &[])?;
        ensure!(
            said.status.success() && said.stderr.is_empty(),
            "{rules}: {said:?}"
        );
        tfo.done(&["guard", "set", "off", "--port", PORT])?;
    }
    // A transparent proxy; and the default rule, which is of all ports but 443.
    let tproxy = "table ip t { chain pre { type filter hook prerouting priority mangle; \
                  tcp dport 80 tproxy to 127.0.0.1:1 accept; }; }";
    set_rules(&pair.server, tproxy)?;
    ensure!(set(tfo, &[])?.status.success());
    let all = tfo.run(&["guard", "set", "on"])?;
    all.ensure_refused(&["ports without a rule of their own", "tproxy"])?;
    let off = ["guard", "set", "off", "--port", "80"];
    tfo.done(&off)?;
    tfo.done(&["guard", "set", "on"])?;
    Ok(())
}

#[test]
fn an_operator_can_insist() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    let rules = "table ip t { chain pre { type nat hook prerouting priority dstnat; \
                 tcp dport 443 redirect to :8443; }; }";
    set_rules(&pair.server, rules)?;
    ensure_refuses(&set(tfo, &[])?, &["port 443", "(redirect)"])?;
    ensure!(tfo.json(&["guard", "show"])?["in_force"] == false);
    let said = set(tfo, &["--force"])?;
    ensure!(said.status.success(), "{said:?}");
    ensure_says(&said.stderr, &["warning", "port 443", "(redirect)"])?;
    ensure!(tfo.json(&["guard", "show"])?["ports"][0]["on"] == true);
    ensure_problem(tfo, "guard and NAT", "port 443")?;
    set_rules(&pair.server, "")?;
    ensure!(finding(tfo, "guard and NAT")?.is_none());
    Ok(())
}

#[test]
fn rules_that_cannot_be_read_are_told() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { pair, .. } = &testbed.base;
    let hide = |program: &str| {
        let script = format!(
            "mount --bind /dev/null $(command -v nft || echo /usr/sbin/nft) && exec {program}"
        );
        let mut command = pair.server.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        process::output(&mut command, LIMIT)
    };
    let binary = tfo::binary();
    let command = format!("{} guard set on --port {PORT}", binary.display());
    // Without a rule there is nothing to know.
    let said = hide(&command)?;
    ensure!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let rules = "table ip t { chain pre { type nat hook prerouting priority dstnat; }; }";
    set_rules(&pair.server, rules)?;
    let said = hide(&command)?;
    ensure!(said.status.success(), "{said:?}");
    ensure_says(
        &said.stderr,
        &["warning", "nftables has rules here", "not known", "nft"],
    )
}

#[test]
fn without_syn_cookies_it_is_warned() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    pair.server.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
    let said = set(tfo, &[])?;
    ensure!(said.status.success(), "{said:?}");
    let parts = [
        "warning",
        "tcp_syncookies = 0",
        "no SYN is challenged",
        "sysctl -w",
    ];
    ensure_says(&said.stderr, &parts)?;
    let said = tfo.run(&["guard", "set", "off", "--port", PORT])?;
    ensure!(said.stderr.is_empty(), "{said:?}");
    Ok(())
}

#[test]
fn a_bridges_port_is_refused_and_the_bridge_is_named() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    set(tfo, &[])?;
    pair.server.configure(&[
        "link add bridge7 type bridge",
        &format!("link set {SERVER_INTERFACE} master bridge7"),
        "link set bridge7 up",
    ])?;
    ensure_problem(tfo, "guard and device", "bridge7")?;
    set(tfo, &[])?.ensure_refused(&[SERVER_INTERFACE, "a port of bridge7", "--force"])?;
    // The remedy.
    tfo.done(&["attach", "bridge7", "--mode", "generic"])?;
    let said = set(tfo, &[])?;
    ensure!(said.status.success(), "{said:?}");
    ensure_says(&said.stderr, &["not guarded", SERVER_INTERFACE, "bridge7"])?;
    let guarded = tfo.json(&["status"])?["guard"]["interfaces"].clone();
    ensure!(guarded == serde_json::json!(["bridge7"]), "{guarded}");
    ensure!(finding(tfo, "guard and device")?.is_none());
    Ok(())
}

#[test]
fn a_macvlan_that_takes_all_frames_is_named() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    pair.server.configure(&[&format!(
        "link add macvlan7 link {SERVER_INTERFACE} type macvlan mode passthru"
    )])?;
    set(tfo, &[])?.ensure_refused(&[SERVER_INTERFACE, "macvlan7", "passthru"])?;
    pair.server.configure(&["link del macvlan7"])?;
    pair.server.configure(&[&format!(
        "link add macvlan7 link {SERVER_INTERFACE} type macvlan mode bridge"
    )])?;
    ensure!(set(tfo, &[])?.status.success());
    Ok(())
}

/// The peer is in another network namespace.
#[test]
fn native_on_veth_needs_a_program_on_the_peer() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", "native"])?;
    let Testbed { tfo, pair, .. } = &testbed;
    let parts = [SERVER_INTERFACE, "no native XDP program", "--mode tc"];
    set(tfo, &[])?.ensure_refused(&parts)?;
    let peer = Other::attach(&pair.client, tfo_testbed::veth::CLIENT_INTERFACE)?;
    let said = set(tfo, &[])?;
    ensure!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    // The program on the peer goes: it is known, and what is in force stays until it is set again.
    drop(peer);
    ensure_problem(tfo, "guard and device", "no native XDP program")?;
    set(tfo, &[])?.ensure_refused(&parts)?;
    ensure!(set(tfo, &["--force"])?.status.success());
    // A remedy.
    tfo.done(&["attach", "--replace", SERVER_INTERFACE, "--mode", "tc"])?;
    ensure!(set(tfo, &[])?.status.success());
    let listener = testbed.listen(Family::V4)?;
    tfo.done(&["guard", "set", "on", "--port", &listener.port().to_string()])?;
    testbed.request_cookie(&listener, Family::V4)
}

/// Both ends are in one namespace.
#[test]
fn a_peer_in_the_same_namespace_is_seen() -> Result<()> {
    let pair = Pair::new()?;
    pair.server.configure(&[
        "link add near7 type veth peer name far7",
        "link set near7 up",
        "link set far7 up",
    ])?;
    let tfo = Tfo::new(&pair.server);
    tfo.done(&["attach", "near7", "--mode", "native"])?;
    set(&tfo, &[])?.ensure_refused(&["near7", "no native XDP program"])?;
    tfo.done(&["attach", "far7", "--mode", "generic"])?;
    let said = set(&tfo, &[])?;
    // The other end can have it; but generic XDP there is not enough for this one.
    ensure_says(&said.stderr, &["not guarded: near7"])?;
    tfo.done(&["detach", "far7"])?;
    tfo.done(&["attach", "far7", "--mode", "native"])?;
    let said = set(&tfo, &[])?;
    ensure!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    Ok(())
}

/// An interface that is attached while a guard is in force does not get it where it cannot work.
#[test]
fn a_later_interface_is_examined_too() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    ensure!(set(tfo, &[])?.status.success());
    pair.server.configure(&[
        "link add near7 type veth peer name far7",
        "link set near7 up",
        "link set far7 up",
    ])?;
    tfo.done(&["attach", "near7", "--mode", "native"])?;
    let guarded = tfo.json(&["status"])?["guard"]["interfaces"].clone();
    ensure!(
        guarded == serde_json::json!([SERVER_INTERFACE]),
        "{guarded}"
    );
    let found = finding(tfo, "guard and interface")?.context("no finding")?;
    ensure_says(&found.to_string(), &["near7", "no native XDP program"])
}

/// `nft` and `sh`, as an operator types them.
pub(crate) fn type_in(netns: &Netns, commands: &[&str]) -> Result<()> {
    for command in commands {
        let mut shell: Command = netns.command("sh");
        process::succeed(shell.args(["-c", command]), LIMIT)?;
    }
    Ok(())
}
