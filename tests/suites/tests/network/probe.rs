//! `tfo probe` through two routers that leave SYNs alone, strip or change their options, drop them, or share them among
//! servers.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    netns::Netns,
    process::{self, Output, ensure_says},
    socket::{Listener, Settings},
    tfo::{LIMIT, Tfo, binary},
    veth::Family,
};

/// The port of the server.
const PORT: u16 = 443;
const SYN: &str = "tcp flags & (syn|ack) == syn";

/// Client, two routers, server: `10.81.N.0/24` and `fd81:N::/64`, in which .1 is nearer to the server, and .2 to the client.
struct Road {
    client: Netns,
    routers: [Netns; 2],
    server: Netns,
}

impl Road {
    fn new() -> Result<Self> {
        let road = Self {
            client: Netns::new("p-client")?,
            routers: [Netns::new("p-near")?, Netns::new("p-far")?],
            server: Netns::new("p-server")?,
        };
        let [near, far] = &road.routers;
        for (number, left, right) in [
            (1, &road.client, near),
            (2, near, far),
            (3, far, &road.server),
        ] {
            left.configure(&[format!(
                "link add right{number} type veth peer name left{number} netns {}",
                right.name()
            )])?;
            for (netns, interface, host) in [(left, "right", 2), (right, "left", 1)] {
                let device = format!("{interface}{number}");
                netns.configure(&[
                    format!("addr add 10.81.{number}.{host}/24 dev {device}"),
                    format!("addr add fd81:{number}::{host}/64 dev {device} nodad"),
                    format!("link set {device} up"),
                ])?;
            }
        }
        let route = |netns: &Netns, to: &str, via: &str| {
            let (v4, v6) = match to {
                "default" => ("default".to_owned(), "default".to_owned()),
                net => (format!("10.81.{net}.0/24"), format!("fd81:{net}::/64")),
            };
            let [number, host] = [&via[..1], &via[2..]];
            netns.configure(&[
                format!("route add {v4} via 10.81.{number}.{host}"),
                format!("route add {v6} via fd81:{number}::{host}"),
            ])
        };
        route(&road.client, "default", "1.1")?;
        route(near, "3", "2.1")?;
        route(far, "1", "2.2")?;
        route(&road.server, "default", "3.2")?;
        for router in &road.routers {
            for (sysctl, value) in [
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
                // Each SYN of a trace is to be told of.
                ("net.ipv4.icmp_ratelimit", "0"),
                ("net.ipv6.icmp.ratelimit", "0"),
            ] {
                router.set_sysctl(sysctl, value)?;
            }
        }
        for host in [&road.client, &road.server] {
            host.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        }
        Ok(road)
    }

    const fn server(family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(std::net::Ipv4Addr::new(10, 81, 3, 1)),
            Family::V6 => IpAddr::V6(std::net::Ipv6Addr::new(0xfd81, 3, 0, 0, 0, 0, 0, 1)),
        }
    }

    fn listen(&self, address: IpAddr, settings: &Settings) -> Result<Listener> {
        Listener::with(&self.server, SocketAddr::new(address, PORT), settings)
    }

    /// Has a router apply a rule to what it forwards.
    fn rule(&self, router: usize, rule: &str) -> Result<()> {
        let table = format!(
            "table inet t {{ chain f {{ type filter hook forward priority 0; {rule}; }}; }}"
        );
        self.routers[router].done("nft", &[&table]).map(drop)
    }

    fn probe(&self, family: Family, more: &[&str]) -> Result<Output> {
        let server = Self::server(family).to_string();
        Tfo::new(&self.client).run(&[&["probe", &server], more].concat())
    }

    /// The JSON of a probe that ends with this status. On a machine that stalls for a second, the kernel sends a SYN again,
    /// and the probe says so: then it is made once more, as the first time.
    fn json(&self, family: Family, status: i32) -> Result<Value> {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let output = self.probe(family, &["--json"])?;
            let value: Value = serde_json::from_str(&output.stdout)?;
            if value.to_string().contains("may have been lost") {
                self.client.ip(&["tcp_metrics", "flush"])?;
                continue;
            }
            ensure!(output.status.code() == Some(status), "{output:#?}");
            ensure!(value["works"] == (status == 0), "{value:#}");
            return Ok(value);
        }
        anyhow::bail!("SYNs were lost {TRIES} times")
    }
}

/// Returns the probe's finding for `check`, with its verdict in front.
fn found(value: &Value, check: &str) -> Result<String> {
    let findings = value["findings"].as_array().context("no findings")?;
    let found = findings.iter().find(|each| each["check"] == check);
    let found = found.with_context(|| format!("nothing of {check} in {value:#}"))?;
    let [verdict, text] = [&found["verdict"], &found["found"]].map(Value::as_str);
    Ok(format!(
        "{}: {}",
        verdict.unwrap_or_default(),
        text.unwrap_or_default()
    ))
}

fn expect(value: &Value, check: &str, parts: &[&str]) -> Result<()> {
    ensure_says(&found(value, check)?, parts)
}

/// Runs `test` for both families, with a Fast Open listener on every address of the server.
fn on_both(test: impl Fn(&Road, Family) -> Result<()>) -> Result<()> {
    for family in Family::BOTH {
        let road = Road::new()?;
        let _listener = road.listen(family.unspecified(), &Settings::FAST_OPEN)?;
        test(&road, family).with_context(|| format!("{family}"))?;
    }
    Ok(())
}

fn hops(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["hop 1 (10.81.1.1)", "hop 2 (10.81.2.1)"],
        Family::V6 => ["hop 1 (fd81:1::1)", "hop 2 (fd81:2::1)"],
    }
}

#[test]
fn a_plain_path_works() -> Result<()> {
    on_both(|road, family| {
        let value = road.json(family, 0)?;
        let parts = ["ok:", "kinds 34 and 254"];
        expect(&value, "cookie", &parts)?;
        expect(&value, "keys", &["ok: 5 answers", "one key"])?;
        // The kernel has asked by one of them.
        expect(&value, "data", &["ok:", "4 of 4"])?;
        expect(&value, "time", &["ok:"])?;
        let fast_open = value["fast_open"].as_array().context("no connections")?;
        ensure!(fast_open.len() == 5 && value["syns"]["hops"] == serde_json::json!([]));
        let count = road.probe(family, &["--count", "2"])?;
        ensure_says(&count.stdout, &["works", "4 connections and 4 raw SYNs"])
    })
}

#[test]
fn an_option_that_is_stripped_is_placed() -> Result<()> {
    on_both(|road, family| {
        let [near, far] = hops(family);
        let place = format!("stripped between {near} and {far}");
        // Linux falls back to the other form.
        road.rule(0, &format!("{SYN} reset tcp option fastopen"))?;
        let value = road.json(family, 0)?;
        expect(&value, "cookie", &["note:", &place, "kind 254"])?;
        road.routers[0].done("nft", &["flush ruleset"])?;
        road.client.ip(&["tcp_metrics", "flush"])?;
        let both = format!("{SYN} reset tcp option fastopen; {SYN} reset tcp option 254");
        road.rule(0, &both)?;
        let value = road.json(family, 3)?;
        expect(&value, "cookie", &["problem:", &place])?;
        let text = road.probe(family, &[])?.stdout;
        ensure_says(&text, &["does not work well", "is intact", "is gone", "->"])
    })
}

#[test]
fn an_option_that_is_stripped_from_the_answer_is_not_seen_at_a_hop() -> Result<()> {
    on_both(|road, family| {
        let answer = "tcp flags & (syn|ack) == (syn|ack)";
        let rule = format!("{answer} reset tcp option fastopen; {answer} reset tcp option 254");
        road.rule(1, &rule)?;
        let value = road.json(family, 3)?;
        let [_, far] = hops(family);
        let intact = format!("intact at {far}");
        let parts = ["problem: no cookie", &intact, "from the SYN-ACK no hop"];
        expect(&value, "cookie", &parts)
    })
}

#[test]
fn dropped_syns_are_told_apart_and_placed() -> Result<()> {
    on_both(|road, family| {
        let [near, far] = hops(family);
        let place = format!("dropped between {near} and {far}");
        // The first two bytes of the data.
        road.rule(0, &format!("{SYN} @ih,0,16 0x0d0a drop"))?;
        let output = road.probe(family, &["--json", "--count", "2"])?;
        ensure!(output.status.code() == Some(3), "{output:#?}");
        let value = serde_json::from_str(&output.stdout)?;
        expect(&value, "cookie", &["ok:"])?;
        let parts = ["problem: 1 of 1", "SYNs with data are", &place];
        expect(&value, "data", &parts)?;
        road.routers[0].done("nft", &["flush ruleset"])?;
        // The last router drops the option.
        road.rule(1, &format!("{SYN} tcp option fastopen exists drop"))?;
        let output = road.probe(family, &["--json", "--count", "2"])?;
        let value = serde_json::from_str(&output.stdout)?;
        let place = format!("dropped between {far} and the server");
        expect(&value, "cookie", &["problem:", "option are", &place])
    })
}

#[test]
fn a_cookie_that_is_changed_is_placed() -> Result<()> {
    on_both(|road, family| {
        let [near, far] = hops(family);
        road.rule(0, &format!("{SYN} tcp option @34,16,16 set 0xdead"))?;
        let value = road.json(family, 3)?;
        expect(&value, "cookie", &["ok:"])?;
        let place = format!("changed between {near} and {far}");
        let parts = ["problem: 4 of 4", "same cookie again", &place];
        expect(&value, "data", &parts)
    })
}

/// Three servers with a key each behind one address, connections in turn.
#[test]
fn keys_behind_one_address_are_counted() -> Result<()> {
    const KEYS: [&[u8]; 3] = [&[1; 16], &[2; 16], &[3; 16]];
    let road = Road::new()?;
    let addresses = [10, 11, 12].map(|host| format!("10.81.3.{host}"));
    let mut listeners = Vec::new();
    for (address, keys) in addresses.iter().zip(KEYS) {
        let prefix = format!("addr add {address}/24 dev left3");
        road.server.configure(&[prefix])?;
        let settings = Settings {
            keys,
            ..Settings::FAST_OPEN
        };
        listeners.push(road.listen(address.parse()?, &settings)?);
    }
    let [one, two, three] = &addresses;
    let table = format!(
        "table ip n {{ chain p {{ type nat hook prerouting priority -100; ip daddr 10.81.3.1 dnat to numgen inc mod 3 map {{ 0 : {one}, 1 : {two}, 2 : {three} }}; }}; }}"
    );
    road.routers[1].done("nft", &[&table])?;
    let value = road.json(Family::V4, 3)?;
    let parts = ["problem: 5 answers", "3 different", "3 keys"];
    expect(&value, "keys", &parts)?;
    expect(
        &value,
        "data",
        &["problem:", "did not have their data taken"],
    )?;
    // One of them by its own address is well.
    let direct = Tfo::new(&road.client).run(&["probe", two])?;
    ensure!(direct.status.success(), "{direct:#?}");
    Ok(())
}

#[test]
fn what_the_hosts_turn_off_is_told() -> Result<()> {
    on_both(|road, family| {
        road.server.set_sysctl("net.ipv4.tcp_fastopen", "1")?;
        let value = road.json(family, 3)?;
        expect(
            &value,
            "cookie",
            &["problem: no cookie", "off at the server"],
        )?;
        road.server.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        road.client.set_sysctl("net.ipv4.tcp_fastopen", "2")?;
        let value = road.json(family, 3)?;
        expect(&value, "this host", &["problem:", "without bit 0x1"])?;
        expect(&value, "cookie", &["ok:"])
    })
}

#[test]
fn without_privileges_sockets_show_what_they_can() -> Result<()> {
    let road = Road::new()?;
    let family = Family::V4;
    let _listener = road.listen(family.unspecified(), &Settings::FAST_OPEN)?;
    let mut command = road.client.command("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]);
    let server = Road::server(family).to_string();
    let binary = binary().display().to_string();
    let output = process::output(command.args([&binary, "probe", &server]), LIMIT)?;
    ensure!(output.status.success(), "{output:#?}");
    let parts = ["works", "4 of 4", "not seen", "CAP_NET_RAW", "0 raw SYNs"];
    ensure_says(&output.stdout, &parts)
}

#[test]
fn what_cannot_be_probed_is_refused() -> Result<()> {
    let road = Road::new()?;
    let tfo = Tfo::new(&road.client);
    let refused = |arguments: &[&str], parts: &[&str]| -> Result<()> {
        tfo.run(&[&["probe"], arguments].concat())?
            .ensure_refused(parts)
    };
    let parts = ["10.81.3.1:443", "cannot connect", "nothing listens there"];
    refused(&["10.81.3.1"], &parts)?;
    let parts = [
        "10.81.3.1:443",
        "no route",
        "10.81.3.1",
        "with the address 10.0.0.9",
    ];
    refused(&["10.81.3.1", "--from", "10.0.0.9"], &parts)?;
    let parts = ["10.81.3.1: it has no address of the family", "--from"];
    refused(&["10.81.3.1", "--from", "fd81:1::2"], &parts)?;
    for wrong in [&["10.81.3.1:0"][..], &["10.81.3.1", "--count", "1"], &[""]] {
        let output = tfo.run(&[&["probe"], wrong].concat())?;
        ensure!(output.status.code() == Some(2), "{output:?}");
    }
    Ok(())
}
