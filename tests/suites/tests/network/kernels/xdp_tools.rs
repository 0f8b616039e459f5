//! Beside a program that libxdp loaded: `xdp-filter` of xdp-tools, behind libxdp's dispatcher where the kernel takes that.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    kernel::{feature, is_before, is_stock},
    process::Background,
    socket::Method,
    testbed::{Tally, Testbed},
    tfo::LIMIT,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::traffic;

/// Loads the filter, which passes everything, and keeps what it pins: in a mount namespace of its own, since these pins
/// and the lock are the machine's.
const LOAD: &str = "mount -t bpf bpf /sys/fs/bpf && mount -t tmpfs tmpfs /run && \
                    xdp-filter load -m native \"$0\" && echo loaded && exec sleep infinity";

/// Starts the filter on the server's interface. Gives the name of the program that the kernel runs.
fn start_filter(pair: &Pair) -> Result<(Background, String)> {
    let mut command = pair.server.command("unshare");
    command.args(["-m", "sh", "-c", LOAD, SERVER_INTERFACE]);
    let mut filter = Background::start(&mut command)?;
    filter.wait_for_text("loaded", LIMIT)?;
    let links = pair
        .server
        .ip(&["-json", "-details", "link", "show", SERVER_INTERFACE])?;
    let links: Value = serde_json::from_str(&links)?;
    let name = &links[0]["xdp"]["prog"]["name"];
    let name = name.as_str().with_context(|| format!("no name: {links}"))?;
    Ok((filter, name.to_owned()))
}

/// Mirror and guard run in traffic control, and the output names what keeps them out of XDP.
#[test]
fn beside_a_program_of_libxdp() -> Result<()> {
    let mut form = "one program, without its dispatcher";
    for mode in ["auto", "tc"] {
        let pair = Pair::new()?;
        let (_filter, program) = start_filter(&pair)?;
        let dispatched = program == "xdp_dispatcher";
        ensure!(dispatched || !is_stock(), "no dispatcher: {program}");
        if dispatched {
            form = "its dispatcher";
        }
        let mut testbed = Testbed::idle(pair)?;
        let said = testbed
            .tfo
            .run(&["attach", SERVER_INTERFACE, "--mode", "native"])?;
        let reason = format!("another XDP program is attached: {program} ");
        let refused = said.stderr.contains(&reason) && said.stderr.contains("--mode tc");
        ensure!(said.status.code() == Some(1) && refused, "{said:?}");

        testbed
            .tfo
            .done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
        testbed.restart()?;
        let tally = traffic(&testbed, Tally::default())?;
        guard_in_traffic_control(&testbed, mode, tally)
            .with_context(|| format!("{mode}, beside {program}"))?;
    }
    feature("beside libxdp", form);
    Ok(())
}

fn guard_in_traffic_control(testbed: &Testbed, mode: &str, so_far: Tally) -> Result<()> {
    if is_before(6, 9)? {
        return Ok(());
    }
    testbed.tfo.done(&["guard", "set", "on"])?;
    let status = testbed.tfo.json(&["status"])?;
    let interface = &status["interfaces"][0];
    ensure!(interface["mode"] == "tc", "{status:#}");
    if mode == "auto" {
        let reason = interface["mode_reason"].as_str().unwrap_or_default();
        let told = "not native XDP: another XDP program is attached";
        ensure!(reason.contains(told), "{status:#}");
    }
    testbed.pair.forget_cookies()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let counted = testbed.equal()?.counters;
    let guarded =
        ["GuardChallenged", "GuardAccepted", "GuardProven"].map(|counter| counted[counter] >= 1);
    ensure!(guarded == [true; 3], "{counted:?}");
    // The kernel never saw the challenged request.
    let passed = counted["TCPFastOpenPassive"] == so_far.passive + 1;
    ensure!(passed, "{counted:?}");
    Ok(())
}
