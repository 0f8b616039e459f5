//! Remedies that `tfo doctor` prints: each, run as it is printed, removes what it is for. Those of pins, of programs that moved
//! or were detached, and of the guard's surroundings are beside the tests of these.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, programs::Xdp};
use serde_json::Value;
use tfo_common::abi::XDP_PROGRAM;
use tfo_testbed::{
    netns::Netns,
    poll::eventually,
    process,
    socket::{Connection, Method},
    testbed::{REQUEST, Testbed},
    tfo::{self, LIMIT, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
};
use tfo_userspace::datapath::OBJECT;

use super::confinement::AS_THE_HOSTS;

/// Separates the outputs of the doctor.
const THEN: &str = "=====";

/// Commands that make a fault on a host to whose `server0` tfo is attached, the doctor's check, and the command in its remedy.
/// A later row may take for granted what an earlier one left.
const FAULTS: [[&str; 3]; 15] = [
    [
        "sysctl -w net.ipv4.tcp_fastopen=1",
        "tcp_fastopen",
        "sysctl -w net.ipv4.tcp_fastopen=3",
    ],
    [
        "sysctl -w net.ipv4.tcp_fastopen=515",
        "no cookie",
        "sysctl -w net.ipv4.tcp_fastopen=3",
    ],
    [
        "sysctl -w net.ipv4.tcp_fastopen=7",
        "client",
        "sysctl -w net.ipv4.tcp_fastopen=3",
    ],
    [
        "sysctl -w net.ipv4.tcp_syncookies=2",
        "SYN cookies",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ],
    [
        "sysctl -w net.ipv4.tcp_syncookies=0",
        "SYN cookies",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ],
    [
        "sysctl -w net.ipv4.tcp_fastopen_key=1-2-3-4",
        "keys of the data path",
        "tfo keys import",
    ],
    [
        "ip link set server0 down",
        "state",
        "ip link set server0 up",
    ],
    [
        "ethtool -K server0 rx off",
        "checksums",
        "ethtool -K server0 rx on",
    ],
    [
        "tfo attach --replace server0 --mode generic",
        "XDP",
        "tfo attach --replace server0 --mode auto",
    ],
    [
        "tfo attach --replace server0 --mode native",
        "XDP",
        "tfo attach --replace server0 --mode auto",
    ],
    ["tfo detach --all", "attached", "tfo attach IFACE"],
    [
        "tfo policy set --bad drop --dry-run",
        "policy",
        "tfo policy set [--port PORT] --dry-run=false",
    ],
    [
        "tfo attach --replace server0 --mirror packet",
        "policy and mirror",
        "tfo attach --replace server0",
    ],
    [
        "tfo guard set on; sysctl -w net.ipv4.tcp_syncookies=0",
        "guard and SYN cookies",
        "sysctl -w net.ipv4.tcp_syncookies=1",
    ],
    [
        "tfo policy clear; tfo attach --replace server0 --mirror packet; tfo guard clear; tfo detach server0",
        "attached",
        "tfo attach IFACE",
    ],
];

/// As [`FAULTS`], of the machine: in a mount namespace of its own.
const FAULTS_OF_MOUNTS: [[&str; 3]; 3] = [
    [
        "mount -t bpf -o mode=1777 bpf /sys/fs/bpf",
        "bpffs",
        "chmod 0700 /sys/fs/bpf",
    ],
    [
        "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; mount -o remount,bind,ro /sys/fs/bpf",
        "bpffs",
        "mount -o remount,rw /sys/fs/bpf",
    ],
    [
        "while umount /sys/fs/bpf; do :; done",
        "bpffs",
        "mount -t bpf -o mode=0700 bpf /sys/fs/bpf",
    ],
];

/// The remedies of a check's findings in the output of `tfo doctor --json`.
fn remedies(doctor: &str, check: &str) -> Result<Vec<String>> {
    let found: Value = serde_json::from_str(doctor).with_context(|| doctor.to_owned())?;
    let findings = found["findings"].as_array().context("no findings")?;
    let of_check = findings.iter().filter(|each| each["check"] == check);
    Ok(of_check
        .filter_map(|each| each["remedy"].as_str().map(str::to_owned))
        .collect())
}

/// Makes a fault and runs its remedy in `netns`. The check prints that remedy before, and does not after.
fn remedy(netns: &Netns, [fault, check, remedy]: [&str; 3]) -> Result<()> {
    // Where the operator has to fill in something.
    let command = remedy
        .replace("IFACE", SERVER_INTERFACE)
        .replace("[--port PORT] ", "");
    let doctor = format!("tfo doctor {SERVER_INTERFACE} --json || test $? = 3; echo {THEN}");
    let script = format!("{AS_THE_HOSTS}\n{{ {fault}; }} >&2\n{doctor}\n{command} >&2\n{doctor}");
    let mut shell = netns.command("unshare");
    shell.args(["--mount", "sh", "-ec", &script]);
    let binary = tfo::binary();
    let own = binary.parent().unwrap_or(Path::new("/")).display();
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{own}:{path}"));
    let said = process::succeed(&mut shell, 2 * LIMIT)?;
    let (before, after) = said.split_once(THEN).context("no output")?;
    let printed = remedies(before, check)?;
    let is_printed = printed.iter().any(|it| it.contains(remedy));
    ensure!(is_printed, "{check} prints {printed:?}: {before}");
    let left = remedies(after.trim().trim_end_matches(THEN), check)?;
    ensure!(left.iter().all(|it| !it.contains(remedy)), "{left:?}");
    Ok(())
}

#[test]
fn each_remedy_removes_what_it_is_for() -> Result<()> {
    let testbed = Testbed::new()?;
    for fault in FAULTS {
        remedy(&testbed.pair.server, fault).with_context(|| fault.join(" | "))?;
    }
    Ok(())
}

#[test]
fn each_remedy_of_mounts_removes_what_it_is_for() -> Result<()> {
    let pair = Pair::new()?;
    for fault in FAULTS_OF_MOUNTS {
        remedy(&pair.server, fault).with_context(|| fault.join(" | "))?;
    }
    Ok(())
}

/// Clients come by an interface that tfo does not see.
#[test]
fn drift_ends_where_clients_arrive_and_the_comparison_starts_anew() -> Result<()> {
    let testbed = Testbed::new()?;
    let Testbed { tfo, pair, .. } = &testbed;
    let listener = testbed.listen(Family::V4)?;
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.port());
    let visit = || -> Result<()> {
        let client = Connection::open(&pair.server, own, Method::SendTo, REQUEST)?;
        ensure!(listener.accept()?.receive()? == REQUEST);
        drop(client);
        pair.server.ip(&["tcp_metrics", "flush"]).map(drop)
    };
    let drift = || -> Result<Vec<String>> {
        let doctor = tfo.run(&["doctor", "--json"])?;
        remedies(&doctor.stdout, "drift")
    };
    visit()?;
    let printed = drift()?.concat();
    for part in ["attach to every interface", "`tfo detach` and `tfo attach`"] {
        ensure!(printed.contains(part), "{printed}");
    }
    tfo.done(&["attach", "lo"])?;
    tfo.done(&["detach", SERVER_INTERFACE])?;
    tfo.done(&["attach", SERVER_INTERFACE])?;
    visit()?;
    let left = drift()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// `xdp off` would leave a generic program where the driver has native XDP.
#[test]
fn a_foreign_program_is_removed_as_the_error_says() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let mut object = Ebpf::load(OBJECT)?;
    let program: &mut Xdp = object
        .program_mut(XDP_PROGRAM)
        .context("no program")?
        .try_into()?;
    program.load()?;
    let pin = format!("/sys/fs/bpf/tfo-t{}-foreign", std::process::id());
    program.pin(&pin)?;
    let attached = [("xdpgeneric", "generic"), ("xdpdrv", "native")].map(|(flag, mode)| {
        let link = ["link", "set", "dev", SERVER_INTERFACE, flag, "pinned", &pin];
        pair.server.done("ip", &link)?;
        let attach = ["attach", SERVER_INTERFACE, "--mode", mode];
        let refused = tfo.run(&attach)?;
        refused.ensure_refused(&["another XDP program", mode])?;
        let command = refused.stderr.split('`').nth(1).context("no command")?;
        println!("{mode}: {command}");
        ensure!(command.contains("xdpgeneric off") == (mode == "generic"));
        pair.server.done("sh", &["-c", command])?;
        tfo.done(&attach)?;
        tfo.done(&["detach", SERVER_INTERFACE])
    });
    std::fs::remove_file(&pin)?;
    attached.into_iter().try_for_each(|done| done.map(drop))
}

#[test]
fn a_service_renews_the_guards_secrets() -> Result<()> {
    const CHECK: &str = "guard's secrets";
    let testbed = Testbed::new()?;
    let tfo = &testbed.tfo;
    tfo.done(&["guard", "set", "on"])?;
    let printed = || -> Result<Vec<String>> {
        let doctor = tfo.run(&["doctor", "--json"])?;
        remedies(&doctor.stdout, CHECK)
    };
    ensure!(printed()? == ["tfo run"], "{:?}", printed()?);
    let _service = tfo.start(&["run", "-i", SERVER_INTERFACE])?;
    eventually("the finding is gone", LIMIT, || Ok(printed()?.is_empty())).map(drop)
}
