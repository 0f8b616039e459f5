//! TC before Linux 6.6: a seccomp filter emulates a kernel without TCX links.

use std::{net::SocketAddr, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Result, ensure};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use tfo_testbed::{
    keys,
    link::{Frames, LinkSocket},
    packet::{Segment, cookie, fast_open, linux_options},
    process,
    socket::Method,
    testbed::{Tally, Testbed},
    tfo,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE},
    xdp,
};

use super::{LIMIT, cookie as cookie_of, is_pinned, upgrade};

/// `BPF_LINK_CREATE` of `enum bpf_cmd`.
const LINK_CREATE: u64 = 28;

/// Runs `tfo` for the server with TCX links refused as before Linux 6.6: EINVAL.
fn without_tcx(testbed: &Testbed, arguments: &[&str]) -> Result<String> {
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, LINK_CREATE)?;
    let rules = [(libc::SYS_bpf, vec![SeccompRule::new(vec![condition])?])];
    let filter: BpfProgram = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EINVAL.cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()?;
    let mut command = Command::new(tfo::binary());
    command
        .args(arguments)
        .args(["--netns", testbed.pair.server.name()]);
    // SAFETY: between fork and exec, the closure makes two system calls and allocates no memory.
    unsafe {
        command
            .pre_exec(move || apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into()));
    }
    process::succeed(&mut command, LIMIT)
}

/// Output of `tc` in the server's namespace.
fn tc(testbed: &Testbed, arguments: &[&str]) -> Result<String> {
    let mut command = testbed.pair.server.command("tc");
    command.args(arguments).args(["dev", SERVER_INTERFACE]);
    if arguments.contains(&"filter") {
        command.arg("ingress");
    }
    process::succeed(&mut command, LIMIT)
}

/// Sends a cookie request and a valid cookie in each family, and a stale cookie.
fn traffic(testbed: &Testbed, key: &[u8; 16], round: i64) -> Result<()> {
    // The second listener never accepts: its queue keeps the crafted connections.
    let [listener, crafted] = [testbed.listen(Family::V6)?, testbed.listen(Family::V6)?];
    for family in Family::BOTH {
        testbed.pair.forget_cookies()?;
        testbed.request_cookie(&listener, family)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::None)?;
        let server = SocketAddr::new(family.server(), crafted.port());
        let client = SocketAddr::new(family.spare(u8::try_from(round)?), 40_000);
        testbed.pair.set_neighbour(client.ip(), NOBODYS_MAC)?;
        let valid = cookie(key, client.ip(), server.ip());
        for (port, cookie) in [(40_000, &valid[..]), (40_001, b"no good.")] {
            let client = SocketAddr::new(client.ip(), port);
            let syn = Segment::syn(client, server)
                .options(&linux_options(&fast_open(cookie)))
                .data(b"data");
            link.send(&syn.frame())?;
        }
    }
    testbed.expect(Tally {
        requests: 2 * round,
        passive: 4 * round,
        failed: 2 * round,
        ..Tally::default()
    })?;
    Ok(())
}

#[test]
fn a_clsact_filter_counts_alike_is_upgraded_and_leaves_nothing() -> Result<()> {
    let key = keys::parse(keys::COUNTING)?[0].to_bytes();
    for mode in ["tc", "auto"] {
        let mut testbed = Testbed::idle(Pair::new()?)?;
        testbed
            .pair
            .server
            .set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        let said = without_tcx(&testbed, &["attach", SERVER_INTERFACE, "--mode", mode])?;
        ensure!(
            said.contains("tc mode") && said.contains("clsact") && said.contains("no TCX"),
            "{said}"
        );
        testbed.restart()?;
        let status = testbed.tfo.json(&["status"])?;
        ensure!(status["interfaces"][0]["mode"] == "tc", "{status}");
        xdp::ensure_detached(&testbed.pair.server, SERVER_INTERFACE)?;
        traffic(&testbed, &key, 1)?;
        let again = testbed.tfo.run(&["attach", SERVER_INTERFACE])?;
        ensure!(again.stderr.contains("attached already"), "{again:?}");

        let before = tc(&testbed, &["filter", "show"])?;
        let replace = [
            "attach",
            "--replace",
            SERVER_INTERFACE,
            "--source-prefix-v4",
            "24",
        ];
        let said = without_tcx(&testbed, &replace)?;
        ensure!(said.contains("upgraded in place"), "{said}");
        let after = tc(&testbed, &["filter", "show"])?;
        ensure!(
            after != before && after.matches("handle 0x74666f").count() == 1,
            "{before}\n{after}"
        );
        traffic(&testbed, &key, 2)?;
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure!(!is_pinned(cookie_of(&testbed.pair.server)?));
        let left = tc(&testbed, &["qdisc", "show"])?;
        ensure!(!left.contains("clsact"), "{left}");
    }
    Ok(())
}

#[test]
fn upgrades_of_a_filter_under_load_lose_nothing() -> Result<()> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    let mut testbed = Testbed::idle(pair)?;
    without_tcx(&testbed, &["attach", SERVER_INTERFACE, "--mode", "tc"])?;
    testbed.restart()?;
    upgrade::under_load(&testbed, ("clsact", 1), &|arguments| {
        without_tcx(&testbed, arguments)
    })
}

#[test]
fn others_filters_and_their_qdisc_are_left_alone() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    testbed
        .pair
        .server
        .set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    let key = keys::parse(keys::COUNTING)?[0].to_bytes();
    let script = format!(
        "tc qdisc add dev {SERVER_INTERFACE} clsact
        tc filter add dev {SERVER_INTERFACE} ingress pref 1 protocol ip u32 match u32 0x12345678 0xffffffff at 0 flowid 1:1
        tc filter add dev {SERVER_INTERFACE} ingress pref 9 protocol all u32 match u32 0 0 flowid 1:1"
    );
    let mut setup = testbed.pair.server.command("sh");
    process::succeed(setup.args(["-ec", &script]), LIMIT)?;
    let before = tc(&testbed, &["filter", "show"])?;
    without_tcx(&testbed, &["attach", SERVER_INTERFACE, "--mode", "tc"])?;
    let with = tc(&testbed, &["filter", "show"])?;
    ensure!(
        with.contains("tfo_tc") && with.contains("pref 2 bpf"),
        "{with}"
    );
    traffic(&testbed, &key, 1)?;
    testbed.tfo.done(&["detach", "--all"])?;
    let after = tc(&testbed, &["filter", "show"])?;
    ensure!(after == before, "{before}\n{after}");
    process::ensure_says(&tc(&testbed, &["qdisc", "show"])?, &["clsact"])?;

    // A filter that was removed with `tc` is reported as absent, and can be attached again.
    without_tcx(&testbed, &["attach", SERVER_INTERFACE, "--mode", "tc"])?;
    let mut remove = testbed.pair.server.command("tc");
    remove.args([
        "filter",
        "del",
        "dev",
        SERVER_INTERFACE,
        "ingress",
        "pref",
        "2",
    ]);
    process::succeed(&mut remove, LIMIT)?;
    super::wait_for("the filter to be missed", || {
        let status = testbed.tfo.json(&["status"])?;
        Ok(status["interfaces"][0]["mode"].is_null().then_some(()))
    })?;
    without_tcx(&testbed, &["attach", SERVER_INTERFACE, "--mode", "tc"])?;
    process::ensure_says(&tc(&testbed, &["filter", "show"])?, &["tfo_tc"])?;
    Ok(())
}
