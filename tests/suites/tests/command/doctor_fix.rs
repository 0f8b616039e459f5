//! `tfo doctor --fix`: says what it would set, and sets that and nothing else.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    process::{self, Output, ensure_says},
    socket::{Listener, Method},
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Family, Pair, SERVER_INTERFACE},
};

const FILE: &str = "/etc/sysctl.d/99-tfo.conf";

#[test]
fn it_says_what_it_would_set_and_sets_it_only_if_told_to() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let Testbed { tfo, pair, .. } = &testbed;
    let file = fs::read(FILE).ok();
    // Bits that have no effect without 0x2 are not to get one.
    let faults = [("tcp_fastopen", "1537"), ("tcp_syncookies", "2")];
    for (sysctl, value) in faults {
        pair.server
            .set_sysctl(&format!("net.ipv4.{sysctl}"), value)?;
    }
    let values = || -> Result<Vec<String>> {
        let read = |(sysctl, _)| pair.server.sysctl(&format!("net.ipv4.{sysctl}"));
        faults.into_iter().map(read).collect()
    };
    let doctor = |flags: &[&str]| tfo.run(&[&["doctor", SERVER_INTERFACE], flags].concat());

    let plan = doctor(&["--fix"])?;
    ensure!(plan.status.code() == Some(3), "{plan:#?}");
    ensure_says(
        &plan.stdout,
        &[
            "tfo would set 2 sysctls",
            "sysctl -w net.ipv4.tcp_fastopen=3 (it is 1537)",
            "sysctl -w net.ipv4.tcp_syncookies=1 (it is 2)",
            "not kept: /etc/sysctl.d is for the first network namespace",
        ],
    )?;
    ensure!(values()? == ["1537", "2"], "{:?}", values()?);

    let done = doctor(&["--fix", "--yes"])?;
    ensure!(done.status.success(), "{done:#?}");
    ensure_says(
        &done.stdout,
        &[
            "set net.ipv4.tcp_fastopen = 3 (it was 1537)",
            "set net.ipv4.tcp_syncookies = 1 (it was 2)",
            "not kept: ",
        ],
    )?;
    ensure!(values()? == ["3", "1"], "{:?}", values()?);
    ensure!(fs::read(FILE).ok() == file, "{FILE} was written");
    let again = doctor(&["--fix", "--yes"])?;
    ensure!(again.status.success(), "{again:#?}");
    ensure_says(&again.stdout, &["nothing here is for tfo to set"])?;

    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    ensure!(
        testbed
            .exchange(&listener, Family::V4, Method::SendTo)?
            .in_syn
    );
    Ok(())
}

#[test]
fn what_it_does_not_do_is_left_to_the_operator() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = tfo::Tfo::new(&pair.server);
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "1")?;
    // A note, which may be meant.
    pair.server.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
    let address = SocketAddr::new(Family::V4.unspecified(), 0);
    let _listener = Listener::plain(&pair.server, address)?;
    let arguments = ["doctor", SERVER_INTERFACE, "--fix", "--yes"];
    let done = tfo.run(&arguments)?;
    ensure!(done.status.code() == Some(3), "{done:#?}");
    ensure_says(
        &done.stdout,
        &[
            "set net.ipv4.tcp_fastopen = 3",
            "left to you:",
            "-> configure the application to set TCP_FASTOPEN",
        ],
    )?;
    ensure!(pair.server.sysctl("net.ipv4.tcp_syncookies")? == "0");
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "1")?;
    let output = tfo.run(&[&arguments[..], &["--json"]].concat())?;
    let shown: Value = serde_json::from_str(&output.stdout).context(output.stdout)?;
    let expected = json!({
        "sysctl": "net.ipv4.tcp_fastopen", "from": 1, "to": 3, "done": true, "error": null,
    });
    ensure!(shown["fix"]["changes"] == json!([expected]), "{shown:#}");
    ensure!(shown["fix"]["file"].is_null(), "{shown:#}");
    let output = tfo.run(&["doctor", "--yes"])?;
    ensure!(output.status.code() == Some(2), "{output:#?}");
    Ok(())
}

/// Runs `script` as the first process of namespaces of its own, network and processes: its network namespace is the first.
/// `/etc/sysctl.d` is empty, and of this script alone.
fn in_first_namespace(script: &str) -> Result<Output> {
    let doctor = format!("{} doctor lo --fix --yes", tfo::binary().display());
    let script = format!("mount -t tmpfs none /etc/sysctl.d; {script}; exec {doctor}");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc"]);
    process::output(command.args(["sh", "-ec", &script]), LIMIT)
}

#[test]
fn values_are_kept_for_the_next_boot() -> Result<()> {
    let set = "echo 1 > /proc/sys/net/ipv4/tcp_fastopen";
    let tfo = tfo::binary().display().to_string();
    let earlier = format!("printf 'kernel.x = 1\nnet.ipv4.tcp_fastopen = 1\n' > {FILE}");
    // The output of the command in between is that of the file.
    let output = in_first_namespace(&format!(
        "{set}; {earlier}; {tfo} doctor lo --fix --yes || test $? = 3; cat {FILE}; ls -l {FILE}"
    ))?;
    let text = &output.stdout;
    ensure_says(
        text,
        &[
            "set net.ipv4.tcp_fastopen = 3 (it was 1)",
            &format!("written to {FILE}, for the next boot"),
            "kernel.x = 1\nnet.ipv4.tcp_fastopen = 3\n-rw-r--r--",
        ],
    )?;
    let later = "echo net/ipv4/tcp_fastopen=1 > /etc/sysctl.d/99-z.conf";
    let output = in_first_namespace(&format!("{set}; {later}"))?;
    ensure_says(
        &output.stdout,
        &["/etc/sysctl.d/99-z.conf: sets net.ipv4.tcp_fastopen, too, and is read after"],
    )?;
    let read_only = "mount -o remount,ro /etc/sysctl.d";
    let output = in_first_namespace(&format!("{set}; {read_only}"))?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure_says(&output.stdout, &["set net.ipv4.tcp_fastopen = 3"])?;
    ensure_says(
        &output.stderr,
        &[
            FILE,
            "not kept for the next boot",
            "make the directory writable",
        ],
    )
}
