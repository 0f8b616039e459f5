//! `--decap` and `--decap-from`: mistakes, what is shown and kept, and outer packets that are not for this host.

use anyhow::{Result, ensure};
use serde_json::json;
use tfo_testbed::{
    link::{Frames, LinkSocket},
    netns::Netns,
    packet::{Segment, fast_open},
    process::ensure_says,
    testbed::Testbed,
    tfo::Tfo,
    tun::Tun,
    tunnel::Tunnel,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

const ALL: [&str; 4] = [
    "--decap",
    "ipip,gre,gue:6080",
    "--decap-from",
    "10.77.0.0/24,fd77::/64",
];

#[test]
fn mistakes_are_wrong_usage_with_a_remedy() -> Result<()> {
    let netns = Netns::new("decap")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    for (options, parts) in [
        (
            &["--decap", "vxlan"][..],
            &["\"vxlan\"", "write ipip, gre, fou:PORT or gue:PORT"][..],
        ),
        (
            &["--decap", "gue"],
            &["gue comes to a UDP port", "gue:6080"],
        ),
        (
            &["--decap", "ipip"],
            &["--decap-from", "anyone can forge", "0.0.0.0/0"],
        ),
        (
            &["--decap-from", "::/0"],
            &["--decap", "nothing is read through"],
        ),
        (
            &["--decap", "fou:7,gue:7", "--decap-from", "::/0"],
            &["fou:7 and gue:7 have one port"],
        ),
        (
            &["--decap", "gre", "--decap-from", "10.0.0.0/8,10.1.0.0/16"],
            &["10.1.0.0/16 is within 10.0.0.0/8"],
        ),
        (
            &["--decap", "gre", "--decap-from", "10.0.0.1/8"],
            &["host bits"],
        ),
    ] {
        for command in [&["attach", "a0"][..], &["run", "-i", "a0"]] {
            let said = tfo.run(&[command, options].concat())?;
            ensure!(said.status.code() == Some(2), "{options:?}: {said:#?}");
            ensure_says(&said.stderr, parts)?;
        }
    }
    Ok(())
}

/// It is kept with the interface's settings, shown, moved along with the hook, and goes with the options of `--replace`.
#[test]
fn it_is_shown_and_kept_until_it_is_replaced() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let attach = ["attach", SERVER_INTERFACE];
    let said = tfo.done(&[&attach[..], &ALL].concat())?;
    let shown = "reads through ipip, gre, gue:6080 from 10.77.0.0/24, fd77::/64";
    ensure_says(&said, &[shown])?;
    let is_on = |on: bool| -> Result<()> {
        let text = tfo.done(&["status"])?;
        ensure!(text.contains(shown) == on, "{text}");
        let status = tfo.json(&["status"])?;
        let interface = &status["interfaces"][0];
        let expected = if on {
            [
                json!(["ipip", "gre", "gue:6080"]),
                json!(["10.77.0.0/24", "fd77::/64"]),
            ]
        } else {
            [json!([]), json!([])]
        };
        ensure!(
            [&interface["decap"], &interface["decap_from"]] == [&expected[0], &expected[1]],
            "{interface}"
        );
        Ok(())
    };
    is_on(true)?;
    tfo.done(&["policy", "set", "--bad", "drop"])?;
    is_on(true)?;
    let replace = ["attach", "--replace", SERVER_INTERFACE];
    let said = tfo.done(&[&replace[..], &ALL].concat())?;
    ensure_says(&said, &["taken over as it is", shown])?;
    let said = tfo.done(&replace)?;
    ensure_says(&said, &["upgraded in place"])?;
    is_on(false)?;
    let said = tfo.done(&[&replace[..], &ALL].concat())?;
    ensure_says(&said, &["upgraded in place", shown])?;
    is_on(true)
}

/// What comes out of a tunnel is read anyway, and has no outer header.
#[test]
fn a_device_without_ethernet_headers_is_refused() -> Result<()> {
    let netns = Netns::new("decap")?;
    let _tun = Tun::new(&netns, "tun0")?;
    let tfo = Tfo::new(&netns);
    let said = tfo.run(&[&["attach", "tun0"][..], &ALL].concat())?;
    ensure!(said.status.code() == Some(1), "{said:#?}");
    ensure_says(
        &said.stderr,
        &["tun0: --decap is for a NIC", "attach without --decap"],
    )?;
    tfo.done(&["attach", "tun0"]).map(drop)
}

/// The guard works on the device at which a tunnel ends, and says so.
#[test]
fn a_guard_says_that_it_leaves_out_tunnels() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let all = [&["attach", SERVER_INTERFACE][..], &ALL].concat();
    tfo.done(&all)?;
    let parts = [
        "server0: SYNs in the tunnels that it reads through",
        "are not challenged",
        "attach to the device at which the tunnels end",
    ];
    let said = tfo.run(&["guard", "set", "on", "--port", "80", "--force"])?;
    ensure!(said.status.success(), "{said:#?}");
    ensure_says(&said.stderr, &parts)?;
    let replace = [&["attach", "--replace", SERVER_INTERFACE][..], &ALL].concat();
    let said = tfo.run(&replace)?;
    ensure!(said.status.success(), "{said:#?}");
    ensure_says(&said.stderr, &parts)?;
    let said = tfo.run(&["attach", "--replace", SERVER_INTERFACE])?;
    ensure!(!said.stderr.contains("challenged"), "{said:#?}");
    Ok(())
}

/// In every mode, an outer packet that this kernel would not take, or of a source that is not named, is nobody's SYN here.
#[test]
fn outer_packets_have_to_be_for_this_host() -> Result<()> {
    let tunnels = [Tunnel::Ipip, Tunnel::Gre, Tunnel::Gue(6080, 0)];
    for mode in ["native", "generic", "tc"] {
        let testbed = Testbed::attach(Pair::new()?, &[&["--mode", mode][..], &ALL].concat())?;
        let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::All)?;
        let mut expected = [0, 0];
        for family in Family::BOTH {
            let (own, other) = (family.server(), family.spare(9));
            let foreign = match family {
                Family::V4 => "192.0.2.9".parse()?,
                Family::V6 => "2001:db8::9".parse()?,
            };
            for inner in Family::BOTH {
                let syn = |to| Segment::syn((inner.spare(7), 50_000).into(), (to, 80).into());
                let syn = |to| syn(to).options(&fast_open(b"no one's")).packet();
                for tunnel in tunnels {
                    for (source, destination, target, taken) in [
                        (family.client(), own, inner.server(), true),
                        (family.client(), other, inner.server(), false),
                        (foreign, own, inner.server(), false),
                        (own, own, inner.server(), family == Family::V6),
                        (family.client(), own, inner.spare(9), false),
                    ] {
                        link.send(&tunnel.frame(source, destination, &syn(target)))?;
                        expected[usize::from(!taken)] += 1;
                    }
                }
            }
        }
        testbed.pair.barrier()?;
        let counters = testbed.tfo.stats()?.counters;
        let counted = ["Syns", "Elsewhere"].map(|name| counters[name]);
        ensure!(
            counted == expected,
            "{mode}: {counted:?} instead of {expected:?}"
        );
    }
    Ok(())
}
