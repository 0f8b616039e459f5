//! SYN-ACKs that leave by another interface than SYNs come by.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    netns::wait_until_up,
    socket::Method,
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

/// The server's second interface, which has its default route.
const OTHER: &str = "server1";
/// The MAC address of the client's second interface.
const GATEWAY: &str = "02:00:00:00:00:12";
/// The client's addresses in other networks than the server's.
const CLIENTS: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

/// SYNs of [`CLIENTS`] come by the first interface, and SYN-ACKs leave by the second.
fn asymmetric() -> Result<Testbed> {
    let pair = Pair::new()?;
    for (netns, interface) in [
        (&pair.client, CLIENT_INTERFACE),
        (&pair.server, SERVER_INTERFACE),
    ] {
        for of in ["all", "default", interface] {
            netns.set_sysctl(&format!("net.ipv4.conf.{of}.rp_filter"), "0")?;
        }
    }
    pair.client.configure(&[
        format!(
            "link add client1 address {GATEWAY} type veth peer name {OTHER} netns {}",
            pair.server.name()
        ),
        "link set client1 up".to_owned(),
        "addr add 10.78.0.2/24 dev client1".to_owned(),
        "addr add fd78::2/64 dev client1 nodad".to_owned(),
        format!("addr add {}/32 dev client1", CLIENTS[0]),
        format!("addr add {}/128 dev client1 nodad", CLIENTS[1]),
    ])?;
    pair.server.configure(&[
        format!("link set {OTHER} up"),
        format!("addr add 10.78.0.1/24 dev {OTHER}"),
        format!("addr add fd78::1/64 dev {OTHER} nodad"),
        // Without an address of the link, the kernel cannot ask for it.
        format!("neigh replace fd78::2 lladdr {GATEWAY} dev {OTHER} nud permanent"),
        format!("route add default via 10.78.0.2 dev {OTHER}"),
        format!("route add ::/0 via fd78::2 dev {OTHER}"),
    ])?;
    wait_until_up(&pair.client, "client1")?;
    wait_until_up(&pair.server, OTHER)?;
    for (family, client) in Family::BOTH.into_iter().zip(CLIENTS) {
        let server = family.server();
        let route = format!("route add {server} dev {CLIENT_INTERFACE} src {client}");
        pair.client.configure(&[route])?;
    }
    Testbed::attach(pair, &[])
}

/// The exit status, and what doctor says of routes.
fn examine(testbed: &Testbed) -> Result<(Option<i32>, Option<Value>)> {
    let output = testbed.tfo.run(&["doctor", "--json"])?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    let mut findings = found["findings"].as_array().context("no findings")?.iter();
    let finding = findings.find(|it| it["check"] == "own cookies and routes");
    Ok((output.status.code(), finding.cloned()))
}

fn ensure_told(testbed: &Testbed, verdict: &str, says: &str) -> Result<()> {
    let (status, finding) = examine(testbed)?;
    let finding = finding.context("nothing is told")?;
    let contains = |key: &str, text: &str| {
        let value = finding[key].as_str();
        value.is_some_and(|value| value.contains(text))
    };
    ensure!(
        finding["interface"] == OTHER
            && finding["verdict"] == verdict
            && contains("found", says)
            && contains("remedy", "tfo attach server1"),
        "{finding:#}"
    );
    ensure!(verdict != "warning" || status == Some(3), "{status:?}");
    Ok(())
}

fn ensure_untold(testbed: &Testbed) -> Result<()> {
    let (_, finding) = examine(testbed)?;
    ensure!(finding.is_none(), "{finding:#?}");
    Ok(())
}

#[test]
fn an_answer_by_another_interface_is_told() -> Result<()> {
    let testbed = asymmetric()?;
    let listener = testbed.listen(Family::V4)?;
    let counted = |name: &str| -> Result<i64> {
        let stats = testbed.tfo.stats()?;
        stats.counters.get(name).copied().context("no counter")
    };
    ensure_untold(&testbed)?;
    testbed.tfo.done(&["cookies", "set"])?;
    ensure_told(&testbed, "note", "to other networks")?;
    testbed.request_cookie(&listener, Family::V4)?;
    ensure!(counted("OwnIssued")? == 0);
    ensure_told(&testbed, "warning", "to 1 of the 1 sources")?;
    // A rule for the address to which clients connect.
    let by_source = [
        "route add default via 10.77.0.2 dev server0 table 100",
        "rule add from 10.77.0.1 lookup 100",
    ];
    testbed.pair.server.configure(&by_source)?;
    ensure_untold(&testbed)?;
    let server = &testbed.pair.server;
    server.configure(&["rule del from 10.77.0.1 lookup 100"])?;
    ensure_told(&testbed, "warning", "to 1 of the 1 sources")?;
    let v6 = testbed.listen(Family::V6)?;
    testbed.request_cookie(&v6, Family::V6)?;
    ensure!(counted("OwnIssued")? == 0);
    ensure_told(&testbed, "warning", "to 2 of the 2 sources")?;
    // The remedy.
    testbed.tfo.done(&["attach", OTHER])?;
    ensure_untold(&testbed)?;
    testbed.pair.forget_cookies()?;
    for (listener, family) in [(&listener, Family::V4), (&v6, Family::V6)] {
        testbed.request_cookie(listener, family)?;
        testbed.in_syn(listener, family, Method::SendTo)?;
    }
    ensure!(counted("OwnIssued")? >= 2 && counted("OwnYoung")? == 2);
    Ok(())
}

/// A device by which SYN-ACKs leave, whose frames leave by an interface with `tfo`.
#[test]
fn a_device_above_an_attached_one_is_no_other() -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.pair.server.configure(&[
        format!("link add link {SERVER_INTERFACE} name above0 type macvlan mode private"),
        "link set above0 up".to_owned(),
        "addr add 10.79.0.1/24 dev above0".to_owned(),
        "route add default via 10.79.0.2 dev above0".to_owned(),
    ])?;
    testbed.tfo.done(&["cookies", "set"])?;
    ensure_untold(&testbed)
}
