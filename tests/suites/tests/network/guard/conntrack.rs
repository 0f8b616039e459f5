//! The guard behind stateful firewalls: nftables and conntrack in namespaces.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_common::counters::Counter::{self, GuardAccepted, GuardChallenged, GuardProven};
use tfo_testbed::{
    netns::Netns,
    poll::eventually,
    process::ensure_says,
    socket::{Connection, Listener, Method},
    testbed::Testbed,
    tfo::LIMIT,
    veth::{Family, server_port},
    xdp::Mode,
};

use super::{
    fitness::{ensure_refuses, finding, printed, set_rules, type_in},
    testbed::{GuardTestbed, PLENTY, in_each_mode},
};

const LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";

/// A firewall that passes new connections to the guarded port `PORT`, and drops what is not of a connection that
/// conntrack knows. What it drops is counted under the name `dropped`.
struct Firewall {
    loose: &'static str,
    input: &'static str,
    output: &'static str,
}

const FIREWALLS: [Firewall; 4] = [
    Firewall {
        loose: "0",
        input: "ct state invalid counter name dropped drop; accept",
        output: "accept",
    },
    Firewall {
        loose: "0",
        input: "ct state established,related accept; tcp dport PORT ct state new accept; \
                icmpv6 type != echo-request accept; counter name dropped drop",
        output: "ct state established,related accept; icmpv6 type != echo-request accept; drop",
    },
    // "New connections begin with a SYN".
    Firewall {
        loose: "1",
        input: "tcp flags & (fin|syn|rst|ack) != syn ct state new counter name dropped drop; \
                ct state established,related,new accept",
        output: "accept",
    },
    Firewall {
        loose: "0",
        input: "ct state vmap { established : accept, related : accept }; jump services; \
                icmpv6 type != echo-request accept; counter name dropped drop",
        output: "accept",
    },
];

impl Firewall {
    fn raise(&self, netns: &Netns, port: u16) -> Result<()> {
        netns.set_sysctl(LOOSE, self.loose)?;
        let rules = format!(
            "table inet filter {{ counter dropped {{ }}; \
             chain services {{ tcp dport PORT ct state new accept; }}; \
             chain input {{ type filter hook input priority filter; policy drop; {}; }}; \
             chain output {{ type filter hook output priority filter; policy drop; {}; }}; }}",
            self.input, self.output
        );
        set_rules(netns, &rules.replace("PORT", &port.to_string()))
    }
}

fn dropped(netns: &Netns) -> Result<u64> {
    let text = netns.done("nft", &["-j", "list", "counters"])?;
    let counters: Value = serde_json::from_str(&text)?;
    let objects = counters["nftables"].as_array().context("no counters")?;
    let counter = objects
        .iter()
        .find(|each| each["counter"]["name"] == "dropped");
    counter.context("no counter")?["counter"]["packets"]
        .as_u64()
        .context("no count")
}

/// Connects plainly, then for a cookie, then with the cookie. Gives what the guard did.
fn connect_all(testbed: &GuardTestbed, listener: &Listener, family: Family) -> Result<[u64; 3]> {
    const COUNTED: [Counter; 3] = [GuardChallenged, GuardAccepted, GuardProven];
    let before = testbed.counters()?;
    let base = &testbed.base;
    base.after_handshake(listener, family, Method::Plain)?;
    base.pair.forget_cookies()?;
    base.request_cookie(listener, family)?;
    base.in_syn(listener, family, Method::SendTo)?;
    let after = testbed.counters()?;
    Ok(COUNTED.map(|counter| after.get(counter) - before.get(counter)))
}

/// The ACKs of clients without a cookie are dropped.
fn ensure_nobody_connects(testbed: &GuardTestbed, listener: &Listener) -> Result<()> {
    let Testbed { pair, .. } = &testbed.base;
    for family in Family::BOTH {
        let before = dropped(&pair.server)?;
        // The client has the challenge and takes it for the server's SYN-ACK.
        let server = server_port(family, listener.port());
        let client = Connection::open(&pair.client, server, Method::Plain, b"unheard")?;
        eventually("its ACK is dropped", LIMIT, || {
            Ok(dropped(&pair.server)? > before)
        })?;
        // Else its data, sent again, would open it once that is possible.
        client.reset()?;
    }
    ensure!(listener.reset_all()? == 0, "a client connected");
    Ok(())
}

/// With exactly the rules that `tfo guard set` prints, every client connects through the guard; without them none
/// does that has no cookie.
fn through(mode: Mode, firewall: &Firewall) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    let listener = testbed.base.listen(Family::V6)?;
    let port = listener.port().to_string();
    firewall.raise(&pair.server, listener.port())?;
    for family in Family::BOTH {
        testbed
            .base
            .after_handshake(&listener, family, Method::Plain)?;
    }
    let set = [
        "guard",
        "set",
        "on",
        "--port",
        &port,
        "--replies",
        PLENTY,
        "--proven",
        PLENTY,
    ];
    let refused = tfo.run(&set)?;
    let named = format!("port {port}: netfilter passes a SYN there and drops the ACK");
    ensure_refuses(&refused, &[&named, "inet filter input", "--force"])?;
    ensure!(tfo.json(&["guard", "show"])?["in_force"] == false);

    tfo.done(&[&set[..], &["--force"]].concat())?;
    ensure_nobody_connects(&testbed, &listener)?;
    let found = finding(tfo, "guard and conntrack")?.context("no finding")?;
    ensure!(found["verdict"] == "problem", "{found:#}");

    let commands = printed(&refused);
    ensure_says(
        &commands.join("\n"),
        &["notrack", "ct state untracked accept"],
    )?;
    type_in(&pair.server, &commands)?;
    let allowed = tfo.run(&set)?;
    ensure!(
        allowed.status.success() && allowed.stderr.is_empty(),
        "{allowed:?}"
    );
    ensure!(finding(tfo, "guard and conntrack")?.is_none());
    for family in Family::BOTH {
        let did = connect_all(&testbed, &listener, family)?;
        ensure!(did == [2, 2, 1], "{family}: {did:?}");
    }
    Ok(())
}

fn what_is_invalid_is_dropped(mode: Mode) -> Result<()> {
    through(mode, &FIREWALLS[0])
}

fn both_ways_pass_only_what_is_known(mode: Mode) -> Result<()> {
    through(mode, &FIREWALLS[1])
}

fn new_connections_begin_with_a_syn(mode: Mode) -> Result<()> {
    through(mode, &FIREWALLS[2])
}

fn services_are_a_chain_of_their_own(mode: Mode) -> Result<()> {
    through(mode, &FIREWALLS[3])
}

/// Translations of other ports, and a firewall that does not expect packets without a state.
const OTHERS: [&str; 4] = [
    "chain out { type nat hook output priority -100; tcp dport 99 redirect to :98; };",
    "chain pre { type nat hook prerouting priority dstnat; tcp dport 99 redirect to :98; };",
    "chain post { type nat hook postrouting priority srcnat; oifname \"wan0\" masquerade; };",
    "chain pre { type nat hook prerouting priority dstnat; tcp dport 99 redirect to :98; }; \
     chain input { type filter hook input priority filter; ct state untracked drop; };",
];

/// NAT, of whatever port, has the kernel reset clients that were challenged: with exactly the rules that `tfo guard set` prints
/// they connect.
fn a_host_with_nat_has_to_exempt_the_port(mode: Mode) -> Result<()> {
    for rules in OTHERS {
        let testbed = GuardTestbed::new(mode)?;
        let Testbed { tfo, pair, .. } = &testbed.base;
        let listener = testbed.base.listen(Family::V6)?;
        let port = listener.port().to_string();
        set_rules(&pair.server, &format!("table inet nat {{ {rules} }}"))?;
        let set = ["guard", "set", "on", "--port", &port];
        let set = [&set[..], &["--replies", PLENTY, "--proven", PLENTY]].concat();
        let refused = tfo.run(&set)?;
        let parts = ["translates addresses", "is reset", "notrack", "--force"];
        ensure_refuses(&refused, &parts)?;
        tfo.done(&[&set[..], &["--force"]].concat())?;
        for family in Family::BOTH {
            let server = server_port(family, listener.port());
            let client = Connection::open(&pair.client, server, Method::Plain, b"unheard");
            let heard = client.and_then(|client| client.receive());
            let error = heard.expect_err("nobody answers");
            let text = format!("{error:#}");
            ensure!(text.contains("reset"), "{rules}, {family}: {text}");
        }
        type_in(&pair.server, &printed(&refused)).context(rules)?;
        let allowed = tfo.run(&set)?;
        let silent = allowed.status.success() && allowed.stderr.is_empty();
        ensure!(silent, "{allowed:?}");
        for family in Family::BOTH {
            let did = connect_all(&testbed, &listener, family).context(rules)?;
            ensure!(did == [2, 2, 1], "{family}: {did:?}");
        }
    }
    Ok(())
}

/// Conntrack that is strict, but drops nothing, is no obstacle: neither to `guard set` nor to clients.
fn strict_conntrack_alone_is_no_obstacle(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    let listener = testbed.base.listen(Family::V6)?;
    pair.server.set_sysctl(LOOSE, "0")?;
    let rules = "table inet filter { chain input { type filter hook input priority filter; policy accept; \
                 ct state established,related counter accept; }; }";
    set_rules(&pair.server, rules)?;
    let port = listener.port().to_string();
    let said = tfo.run(&["guard", "set", "on", "--port", &port])?;
    ensure!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    for family in Family::BOTH {
        let did = connect_all(&testbed, &listener, family)?;
        ensure!(did == [2, 2, 1], "{family}: {did:?}");
    }
    Ok(())
}

in_each_mode! {
    what_is_invalid_is_dropped;
    both_ways_pass_only_what_is_known;
    new_connections_begin_with_a_syn;
    services_are_a_chain_of_their_own;
    a_host_with_nat_has_to_exempt_the_port;
    strict_conntrack_alone_is_no_obstacle;
}
