//! Tunnels that are read through at the NIC, with the kernel's own devices at both ends, where it has them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    kernel::feature,
    link::{Frames, LinkSocket},
    packet::{Segment, cookie, fast_open, flag},
    poll::eventually,
    seed::{rng, rng_with},
    testbed::Testbed,
    tfo::LIMIT,
    tunnel::Tunnel,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

use super::{
    stacks::{Devices, join, visit},
    tunnels::{GUE, IPIP, IPV4_IN_IPV6, IPV6_IN_IPV6, SIT},
};

const GRE: Devices = (
    &["ip link add top0 type gre local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
    "top0",
);
const GRE_IN_IPV6: Devices = (
    &["ip link add top0 type ip6gre local fd77::LOCAL remote fd77::REMOTE"],
    "top0",
);
/// With a checksum, a key and sequence numbers.
const LONG_GRE: Devices = (
    &["ip link add top0 type gre local 10.77.0.LOCAL remote 10.77.0.REMOTE key 7 csum seq"],
    "top0",
);
const FOU: Devices = (
    &[
        "modprobe fou",
        "ip fou add port 5555 ipproto 4",
        "ip link add top0 type ipip local 10.77.0.LOCAL remote 10.77.0.REMOTE encap fou encap-sport auto encap-dport 5555",
    ],
    "top0",
);

/// A row of the table of features, the tunnel, its option, and the version of the packets in it.
const READ: [(&str, Devices, &str, Family); 9] = [
    ("IPv4 in IPv4", IPIP, "ipip", Family::V4),
    ("IPv6 in IPv4", SIT, "ipip", Family::V6),
    ("IPv4 in IPv6", IPV4_IN_IPV6, "ipip", Family::V4),
    ("IPv6 in IPv6", IPV6_IN_IPV6, "ipip", Family::V6),
    ("GRE", GRE, "gre", Family::V4),
    ("GRE", LONG_GRE, "gre", Family::V4),
    ("GRE in IPv6", GRE_IN_IPV6, "gre", Family::V6),
    ("FOU", FOU, "fou:5555", Family::V4),
    ("GUE", GUE, "gue:6080", Family::V4),
];

const SOURCES: &str = "10.77.0.0/24,fd77::/64";

/// Attaches to the NIC below a tunnel; `None` where the kernel has no such devices.
fn attached(devices: Devices, option: &str, mode: &str) -> Result<Option<Testbed>> {
    let pair = Pair::new()?;
    if !join(&pair, devices, devices)? {
        return Ok(None);
    }
    let mut testbed = Testbed::idle(pair)?;
    let options = ["--mode", mode, "--decap", option, "--decap-from", SOURCES];
    let attach = ["attach", SERVER_INTERFACE];
    testbed.tfo.done(&[&attach[..], &options].concat())?;
    testbed.restart()?;
    Ok(Some(testbed))
}

/// A client connects through the tunnel: its SYNs count at the NIC as the kernel counts them behind the tunnel.
#[test]
fn read_through_at_the_nic() -> Result<()> {
    let mut forms = BTreeMap::new();
    for (row, devices, option, family) in READ {
        for mode in ["tc", "native"] {
            let testbed = attached(devices, option, mode).with_context(|| row.to_owned())?;
            let form = if testbed.is_some() {
                "yes"
            } else {
                "no such devices"
            };
            forms.entry(row).or_insert(form);
            let Some(testbed) = testbed else { continue };
            let context = || format!("{row}, {devices:?}, {mode}");
            let listener = testbed.listen(family)?;
            visit(&testbed, &listener, family).with_context(context)?;
            let counted = testbed.equal().with_context(context)?.counters;
            let some = ["TCPFastOpenCookieReqd", "TCPFastOpenPassive"].map(|it| counted[it] >= 1);
            ensure!(some == [true; 2], "{}: {counted:?}", context());
        }
    }
    for (row, form) in forms {
        feature(&format!("--decap, {row}"), form);
    }
    Ok(())
}

/// A SYN is counted at the NIC or where it comes out of the tunnel.
#[test]
fn nic_and_device_are_not_both_attached() -> Result<()> {
    let Some(testbed) = attached(IPIP, "ipip", "tc")? else {
        println!("skipped: no such devices");
        return Ok(());
    };
    let (tfo, option) = (&testbed.tfo, ["--decap", "ipip", "--decap-from", SOURCES]);
    let parts = [
        "top0: server0 reads through tunnels already",
        "`tfo detach server0`",
    ];
    tfo.run(&["attach", "top0"])?.ensure_refused(&parts)?;
    tfo.done(&["detach", SERVER_INTERFACE])?;
    tfo.done(&["attach", "top0"])?;
    let attach = [&["attach", SERVER_INTERFACE][..], &option].concat();
    let parts = ["a second time", "attached to top0", "`tfo detach top0`"];
    tfo.run(&attach)?.ensure_refused(&parts)?;
    // GRE ends at other devices, and a NIC that reads through nothing counts other SYNs.
    tfo.done(&["attach", SERVER_INTERFACE])?;
    tfo.done(&["detach", SERVER_INTERFACE])?;
    let gre = [
        "attach",
        SERVER_INTERFACE,
        "--decap",
        "gre",
        "--decap-from",
        SOURCES,
    ];
    tfo.done(&gre)?;
    tfo.done(&["detach", "top0"])?;
    let replace = [&["attach", "--replace", SERVER_INTERFACE][..], &option].concat();
    tfo.done(&replace)?;
    Ok(())
}

/// Random SYNs through a tunnel, some with a flaw in a header, or from another source.
#[test]
fn random_syns_in_tunnels_count_alike() -> Result<()> {
    const SYNS: u32 = 2500;
    let seed = rng()?.u64(..);
    for (devices, option, tunnel) in [
        (IPIP, "ipip", Tunnel::Ipip),
        (GUE, "gue:6080", Tunnel::Gue(6080, 0)),
    ] {
        for mode in ["tc", "native"] {
            let Some(testbed) = attached(devices, option, mode)? else {
                println!("skipped: no such devices");
                return Ok(());
            };
            let context = || format!("{option}, {mode}, TFO_SEED={seed}");
            random_syns(&testbed, tunnel, seed, SYNS).with_context(context)?;
        }
    }
    Ok(())
}

/// Offset of the outer header, and bytes of headers.
const OUTER: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

fn random_syns(testbed: &Testbed, tunnel: Tunnel, seed: u64, count: u32) -> Result<()> {
    let listener = testbed.listen(Family::V4)?;
    let key = testbed.pair.server.run(key_in_force)?;
    let (client, server) = (Family::V4.client(), Family::V4.server());
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::All)?;
    let foreign = IpAddr::from([192, 0, 2, 9]);
    let mut random = rng_with(seed)?;
    for number in 0..count {
        let from = SocketAddr::new([10, 79, 0, 2].into(), 20_000 + (number % 40_000) as u16);
        let to = SocketAddr::new([10, 79, 0, 1].into(), listener.port());
        let valid = cookie(&key, from.ip(), to.ip());
        let option = match random.u8(..8) {
            0..3 => fast_open(&valid),
            3 => fast_open(&[]),
            4 => fast_open(&random.u64(..).to_le_bytes()),
            5 => fast_open(&valid[..random.usize(..8)]),
            _ => Vec::new().into(),
        };
        let flags = if random.u8(..8) == 0 {
            random.u8(..)
        } else {
            flag::SYN
        };
        let data = vec![b'x'; random.usize(..40)];
        let segment = Segment::new(from, to, flags);
        let segment = segment
            .options(&option)
            .data(&data)
            .numbers(random.u32(..), 0);
        // The kernel has no tunnel from there, and it is none of the sources.
        let is_foreign = random.u8(..8) == 0;
        let source = if is_foreign { foreign } else { client };
        let packet = segment.packet();
        let mut frame = tunnel.frame(source, server, &packet);
        if random.u8(..4) == 0 {
            // Headers with a checksum that is looked at, or without one: not those of UDP and TCP.
            let inner = frame.len() - packet.len();
            let mut flawed: Vec<_> = (OUTER..OUTER + IPV4).chain(inner..inner + IPV4).collect();
            flawed.extend(OUTER + IPV4 + UDP..inner);
            let at = *random.choice(&flawed).context("no bytes")?;
            frame[at] ^= 1 << random.u8(..8);
        }
        link.send(&frame)?;
        if number % 64 == 63 {
            testbed.pair.barrier()?;
            listener.reset_all()?;
        }
    }
    testbed.pair.barrier()?;
    eventually("the counts are the kernel's", LIMIT, || {
        Ok(testbed.tfo.stats()?.drift.values().all(|drift| *drift == 0))
    })?;
    let counted = testbed.equal()?.counters;
    for name in [
        "TCPFastOpenPassive",
        "TCPFastOpenPassiveFail",
        "TCPFastOpenCookieReqd",
    ] {
        ensure!(counted[name] >= 20, "{name}: {counted:?}");
    }
    Ok(())
}

/// The primary cookie key of this thread's namespace.
fn key_in_force() -> Result<[u8; 16]> {
    let namespace = tfo_userspace::datapath::Namespace::current()?;
    let accepted = namespace.keys().accepted()?.context("no keys")?;
    let key = accepted.first().context("no key")?;
    Ok(key.to_bytes())
}
