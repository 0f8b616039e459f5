//! `tfo` with only the capabilities that its systemd unit keeps.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys,
    poll::eventually,
    process::{self, Background},
    socket::Method,
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

const CAPABILITIES: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// A command for `tfo` as root in the server's namespace, with these capabilities only, kept across exec.
fn tfo_with(pair: &Pair, capabilities: &[&str], arguments: &[&str]) -> Command {
    let mut command = pair.server.command("setpriv");
    command
        .arg(format!("--bounding-set=-all,+{}", capabilities.join(",+")))
        .args(["--inh-caps=-all", "--no-new-privs"])
        .arg(tfo::binary())
        .args(arguments);
    command
}

#[test]
fn three_capabilities_do() -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        let mut testbed = Testbed::idle(Pair::new()?)?;
        let done = |testbed: &Testbed, arguments: &[&str]| {
            process::succeed(
                &mut tfo_with(&testbed.pair, &CAPABILITIES, arguments),
                LIMIT,
            )
        };
        done(&testbed, &["attach", SERVER_INTERFACE, "--mode", mode])?;
        testbed.restart()?;
        let listener = testbed.listen(Family::V4)?;
        testbed.request_cookie(&listener, Family::V4)?;
        let before = testbed.pair.server.sysctl(keys::SYSCTL)?;
        done(&testbed, &["keys", "rotate"])?;
        ensure!(
            testbed.pair.server.sysctl(keys::SYSCTL)? != before,
            "not rotated"
        );
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        for arguments in [
            &["stats", "--check"] as &[_],
            &["listeners"],
            &["status"],
            &["keys", "show"],
            &["keys", "import"],
        ] {
            done(&testbed, arguments).context(mode)?;
        }
        done(&testbed, &["detach", SERVER_INTERFACE])?;
        ensure!(
            !xdp::is_pinned(&testbed.pair.server)?,
            "{mode}: still pinned"
        );
    }
    Ok(())
}

#[test]
fn each_of_the_three_is_needed_and_named() -> Result<()> {
    let pair = Pair::new()?;
    for absent in CAPABILITIES {
        let others: Vec<_> = CAPABILITIES
            .into_iter()
            .filter(|each| *each != absent)
            .collect();
        let attach = &mut tfo_with(&pair, &others, &["attach", SERVER_INTERFACE]);
        let output = process::output(attach, LIMIT)?;
        ensure!(output.status.code() == Some(1), "{absent}: {output:?}");
        let doctor = &mut tfo_with(&pair, &others, &["doctor", SERVER_INTERFACE]);
        let output = process::output(doctor, LIMIT)?;
        let name = format!("lacks CAP_{}", absent.to_uppercase());
        ensure!(output.stdout.contains(&name), "{absent}: {output:?}");
    }
    xdp::ensure_pinned(&pair.server, false)?;
    Ok(())
}

#[test]
fn run_rotates_and_detaches_with_the_units_capabilities() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let arguments = [
        "run",
        "-i",
        SERVER_INTERFACE,
        "--interval",
        "1s",
        "--detach-on-exit",
    ];
    let mut running = Background::start(&mut tfo_with(&testbed.pair, &unit()?, &arguments))?;
    let mut seen = BTreeSet::new();
    eventually("two rotations", LIMIT, || {
        ensure!(running.is_running()?, "tfo ended: {:?}", running.written());
        if xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?.is_some() {
            seen.insert(testbed.pair.server.sysctl(keys::SYSCTL)?);
        }
        // The first key and two rotations.
        Ok(seen.len() >= 3)
    })?;
    let ended = running.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(
        xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?.is_none(),
        "{ended:?}"
    );
    ensure!(!xdp::is_pinned(&testbed.pair.server)?, "{ended:?}");
    Ok(())
}

/// The unit's `CapabilityBoundingSet`, in the notation of setpriv(1).
fn unit() -> Result<Vec<&'static str>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/tfo.service");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names: BTreeSet<_> = line
        .context("no CapabilityBoundingSet")?
        .split(' ')
        .collect();
    let all = CAPABILITIES.map(|name| format!("CAP_{}", name.to_uppercase()));
    ensure!(
        names == all.iter().map(String::as_str).collect(),
        "the unit has {names:?}"
    );
    Ok(CAPABILITIES.to_vec())
}
