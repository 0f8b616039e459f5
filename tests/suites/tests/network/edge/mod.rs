//! The split guard: edges challenge for the hosts behind them, which open the connections of clients that answer.

pub(crate) mod farm;
mod handshake;
mod killed;
mod ports;
mod strangers;

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter::{self, *},
    guard::SLOT_SHIFT,
};
use tfo_testbed::{
    keys::KeyFile,
    poll::eventually,
    process::ensure_says,
    socket::{Connection, Method},
    tfo::LIMIT,
    veth::Family,
};

use self::farm::{Farm, Member, PORT, SECRET, say, service};

/// Connections of a kind: with as many, each of two edges and three hosts has some.
const COUNT: usize = 40;

fn sum(members: &[Member], counter: Counter) -> Result<i64> {
    members.iter().map(|member| member.count(counter)).sum()
}

/// Returns the sum of what the hosts' kernels counted.
fn kernels(farm: &Farm, counter: Counter) -> Result<i64> {
    let of = |host: &Member| Ok::<_, anyhow::Error>(host.tfo.stats()?.kernel[counter.name()]);
    farm.hosts.iter().map(of).sum()
}

/// Plain clients are challenged by any edge and accepted by any host; cookies pass with their data.
fn check(mode: &str) -> Result<()> {
    let farm = Farm::guarded(2, 3, mode)?;
    let expect = |counter, members: &[Member], count: usize| {
        let found = sum(members, counter)?;
        let wanted = i64::try_from(count)?;
        ensure!(found == wanted, "{}: {found}, not {wanted}", counter.name());
        Ok(())
    };
    farm.serving(|| {
        for family in Family::BOTH {
            let (hosts, _) = farm.ask_often(family, Method::Plain, COUNT)?;
            ensure!(hosts.len() == 3, "only {hosts:?} answered");
        }
        expect(GuardReferred, &farm.edges, 2 * COUNT)?;
        expect(GuardAccepted, &farm.hosts, 2 * COUNT)?;
        // Nothing of a SYN without a proof reached a host.
        expect(Syns, &farm.hosts, 0)?;
        for edge in &farm.edges {
            ensure!(edge.count(GuardReferred)? > 0, "an edge had nothing to do");
        }

        for family in Family::BOTH {
            let (_, taken) = farm.ask_often(family, Method::SendTo, COUNT)?;
            // The first one asks for a cookie.
            ensure!(
                taken == COUNT - 1,
                "{family}: {taken} of {COUNT} in the SYN"
            );
        }
        expect(GuardProven, &farm.edges, 2 * (COUNT - 1))?;
        expect(GuardCookies, &farm.edges, 2)?;
        expect(GuardAccepted, &farm.hosts, 2 * COUNT + 2)?;
        let [passive, fail] = [Passive, PassiveFail].map(|counter| kernels(&farm, counter));
        let (passive, fail) = (passive?, fail?);
        ensure!(
            passive == i64::try_from(2 * (COUNT - 1))? && fail == 0,
            "Passive {passive}, PassiveFail {fail}"
        );
        // The edges' kernels saw none of it, and nothing drifts.
        for member in farm.edges.iter().chain(&farm.hosts) {
            let drift = member.tfo.stats()?.drift;
            ensure!(drift.values().all(|drift| *drift == 0), "{drift:?}");
        }
        Ok(())
    })
}

#[test]
fn connections_open_by_any_edge_at_any_host_tc() -> Result<()> {
    check("tc")
}

#[test]
fn connections_open_by_any_edge_at_any_host_generic() -> Result<()> {
    check("generic")
}

/// Hosts whose kernels have keys of their own: an edge hands out own cookies, which every host takes.
#[test]
fn own_cookies_of_an_edge_are_good_at_every_host() -> Result<()> {
    let farm = Farm::new(2, 3)?;
    let secret = KeyFile::new(SECRET)?;
    farm.guard_hosts()?;
    farm.guard_edges("tc")?;
    for member in farm.edges.iter().chain(&farm.hosts) {
        let set = [
            "cookies",
            "set",
            "--secret-file",
            secret.path(),
            "--service",
            "www",
        ];
        member.tfo.done(&set)?;
    }
    farm.serving(|| {
        for family in Family::BOTH {
            let (hosts, taken) = farm.ask_often(family, Method::SendTo, COUNT)?;
            ensure!(hosts.len() == 3, "only {hosts:?} answered");
            ensure!(
                taken == COUNT - 1,
                "{family}: {taken} of {COUNT} in the SYN"
            );
        }
        let fail = kernels(&farm, PassiveFail)?;
        ensure!(fail == 0, "PassiveFail {fail}");
        Ok(())
    })
}

/// Both ends negotiate through an edge what they negotiate without it.
#[test]
fn an_edge_states_what_the_hosts_keep() -> Result<()> {
    const SETTINGS: [&str; 4] = [
        "net.ipv4.tcp_timestamps",
        "net.ipv4.tcp_sack",
        "net.ipv4.tcp_window_scaling",
        "net.ipv4.tcp_ecn",
    ];
    let farm = Farm::new(1, 1)?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    farm.guard_hosts()?;
    farm.guard_edges("tc")?;
    let off = [&["guard", "set", "off", "--port", "8080"][..], &VIPS].concat();
    farm.serving(|| {
        for settings in 0..16_u8 {
            for of_client in [true, false] {
                for (bit, key) in SETTINGS.iter().enumerate() {
                    let set = settings & 1 << bit != 0;
                    let value = |mine: bool| if set || !mine { "1" } else { "0" };
                    farm.client.netns.set_sysctl(key, value(of_client))?;
                    for member in [edge, host] {
                        member.netns.set_sysctl(key, value(!of_client))?;
                    }
                }
                for family in Family::BOTH {
                    edge.tfo.done(&off)?;
                    let (without, _) = farm.ask(family, Method::Plain)?;
                    farm.guard_edge(edge, &[])?;
                    let before = host.count(GuardAccepted)?;
                    let (with, _) = farm.ask(family, Method::Plain)?;
                    ensure!(host.count(GuardAccepted)? == before + 1, "not by the edge");
                    let (without, with) = (without.terms()?, with.terms()?);
                    ensure!(
                        without == with,
                        "{family} {settings:04b} {of_client}: without {without:?}, with {with:?}"
                    );
                }
            }
        }
        // A smaller MTU behind the edge, of a tunnel.
        farm.guard_edge(edge, &["--mss", "1300"])?;
        let terms = farm.ask(Family::V4, Method::Plain)?.0.terms()?;
        ensure!(terms.segment_size == 1300 - 12, "{terms:?}");
        // A scale that the host does not have is no proof there: no connection has a window that is not meant.
        farm.guard_edge(edge, &["--window-scale", "3"])?;
        ensure!(farm.ask(Family::V4, Method::Plain).is_err());
        ensure!(host.count(GuardWrongAcks)? > 0);
        Ok(())
    })
}

const VIPS: [&str; 4] = ["--vip", "198.51.100.7", "--vip", "2001:db8:100::7"];

/// Connections go on when an edge goes, or stops guarding; new ones open by the other.
#[test]
fn an_edge_that_goes_takes_no_connection_along() -> Result<()> {
    let farm = Farm::guarded(2, 3, "tc")?;
    farm.serving(|| {
        let mut open = Vec::new();
        for family in Family::BOTH {
            for _ in 0..COUNT {
                open.push(farm.ask(family, Method::Plain)?);
            }
        }
        let go_on = |open: &[(Connection, String)]| {
            open.iter().try_for_each(|(connection, host)| {
                connection.send(b"and now?")?;
                let answer = say(connection)?;
                ensure!(answer == *host, "{answer}, not {host}");
                Ok(())
            })
        };
        farm.edges[1].tfo.done(&["detach", "--all"])?;
        go_on(&open).context("one edge is detached")?;
        // SYNs by the edge without a guard meet the hosts' own kernels.
        farm.ask_often(Family::V4, Method::Plain, COUNT)?;
        farm.route(&[&farm.edges[0]])?;
        farm.edges[1].netns.configure(&["link set front down"])?;
        farm.ask_often(Family::V6, Method::Plain, COUNT)?;
        Ok(())
    })
}

/// A challenge of a clock that differs by less than half a slot is answered; of another slot, or under another secret, not.
#[test]
fn clocks_may_differ_by_less_than_half_a_slot() -> Result<()> {
    const SLOT: i64 = 1 << SLOT_SHIFT;
    let farm = Farm::new(1, 1)?;
    let host = &farm.hosts[0];
    farm.guard_hosts()?;
    farm.guard_edges("tc")?;
    farm.serving(|| {
        for ahead in [0, 4 * SLOT / 10, -4 * SLOT / 10] {
            farm.guard_host(host, Some(ahead))?;
            farm.ask_often(Family::V4, Method::Plain, 3)
                .with_context(|| format!("{ahead} ns ahead"))?;
        }
        for ahead in [2 * SLOT, -2 * SLOT] {
            farm.guard_host(host, Some(ahead))?;
            let before = host.count(GuardWrongAcks)?;
            ensure!(farm.ask(Family::V4, Method::Plain).is_err(), "{ahead}");
            ensure!(host.count(GuardWrongAcks)? > before);
        }
        farm.guard_host(host, Some(0))?;
        farm.ask(Family::V6, Method::Plain)?;
        let other = KeyFile::new(&SECRET.replace('3', "4"))?;
        let set = ["guard", "set", "off", "--port", "8080", "--secret-file"];
        host.tfo.done(&[&set[..], &[other.path()]].concat())?;
        ensure!(farm.ask(Family::V6, Method::Plain).is_err());
        Ok(())
    })
}

/// An edge answers for nobody that it does not forward to.
#[test]
fn an_edge_answers_only_for_whom_it_forwards_to() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    let edge = &farm.edges[0];
    farm.guard_edges("tc")?;
    let open = || {
        farm.client.netns.run(|| {
            let address = service(Family::V4);
            let limit = std::time::Duration::from_millis(300);
            std::net::TcpStream::connect_timeout(&address, limit).map(drop)
        })
    };
    let arrived = |count: i64| {
        eventually("the SYN is seen", LIMIT, || {
            Ok(edge.count(Elsewhere)? >= count)
        })
    };
    // No route, a route to nowhere, no forwarding, an address of the edge's own.
    for (set, undo) in [
        (
            "route del 198.51.100.7",
            "route add 198.51.100.7 nexthop via 10.82.0.21",
        ),
        (
            "route replace unreachable 198.51.100.7",
            "route del unreachable 198.51.100.7",
        ),
    ] {
        let before = edge.count(Elsewhere)?;
        edge.netns.configure(&[set])?;
        ensure!(open().is_err());
        arrived(before + 1)?;
        edge.netns.configure(&[undo])?;
    }
    edge.netns
        .configure(&["route replace 198.51.100.7 nexthop via 10.82.0.21"])?;
    edge.netns
        .set_sysctl("net.ipv4.conf.front.forwarding", "0")?;
    let before = edge.count(Elsewhere)?;
    ensure!(open().is_err());
    arrived(before + 1)?;
    edge.netns
        .set_sysctl("net.ipv4.conf.front.forwarding", "1")?;
    ensure!(edge.count(GuardReferred)? == 0);
    // Challenged, and reset by the host, which has no guard.
    let _ = open();
    ensure!(edge.count(GuardReferred)? == 1);
    // Not at another port, nor for another address.
    let other = (Family::V4.vip(), PORT + 1).into();
    let refused = farm
        .client
        .netns
        .run(|| std::net::TcpStream::connect_timeout(&other, std::time::Duration::from_secs(5)));
    ensure!(refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
    ensure!(edge.count(GuardReferred)? == 1);
    Ok(())
}

#[test]
fn what_no_edge_can_do_is_refused() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    let tfo = &farm.edges[0].tfo;
    tfo.done(&["attach", "front"])?;
    let secret = KeyFile::new(SECRET)?;
    let set = ["guard", "set", "on", "--port", "8080", "--vip"];
    let run = |vip: &str, more: &[&str]| tfo.run(&[&set[..], &[vip], more].concat());
    run("198.51.100.7", &[])?.ensure_refused(&["secret", "--secret-file", "openssl rand"])?;
    let given = ["--secret-file", secret.path()];
    run("0.0.0.0/0", &given)?.ensure_refused(&["every address"])?;
    run("::ffff:0:0/96", &given)?.ensure_refused(&["as IPv4"])?;
    for wrong in [
        &["guard", "set", "--mss", "100"][..],
        &["guard", "set", "--window-scale", "15"],
        &["guard", "set", "on", "--vip", "198.51.100.7"],
        &["guard", "set", "on", "--port", "1", "--mss", "1400"],
    ] {
        let output = tfo.run(wrong)?;
        ensure!(output.status.code() == Some(2), "{wrong:?}: {output:?}");
    }
    ensure!(tfo.done(&["guard", "show"])?.contains("no guard"));

    tfo.done(&[&set[..], &["198.51.100.0/24"], &given].concat())?;
    // The secret stays.
    tfo.done(&[&set[..], &["2001:db8::/32"]].concat())?;
    // The operator is told what makes it idle.
    let edge = &farm.edges[0].netns;
    edge.set_sysctl("net.ipv4.ip_forward", "0")?;
    let said = run("198.51.100.0/24", &[])?.stderr;
    ensure_says(
        &said,
        &[
            "net.ipv4.ip_forward = 0",
            "[2001:db8::/32]:8080: there is no route",
        ],
    )?;
    let doctor = tfo.run(&["doctor"])?.stdout;
    ensure_says(
        &doctor,
        &["guard and forwarding", "sysctl -w net.ipv4.ip_forward=1"],
    )?;
    edge.done("sysctl", &["-w", "net.ipv4.ip_forward=1"])?;
    let doctor = tfo.run(&["doctor"])?.stdout;
    ensure!(!doctor.contains("net.ipv4.ip_forward"), "{doctor}");

    let shown = tfo.json(&["guard", "show"])?;
    let vips: Vec<_> = shown["edges"].as_array().context("edges")?.iter().collect();
    ensure!(
        vips.len() == 2 && vips[0]["vip"] == "198.51.100.0/24",
        "{shown}"
    );
    tfo.run(&["guard", "set", "--own-secrets"])?
        .ensure_refused(&["secret"])?;
    tfo.done(&["guard", "clear", "--vip", "2001:db8::/32"])?;
    tfo.run(&["guard", "clear", "--vip", "2001:db8::/32"])?
        .ensure_refused(&["no such rule"])?;
    tfo.done(&["guard", "clear"])?;
    ensure!(tfo.done(&["guard", "show"])?.contains("no guard"));
    Ok(())
}
