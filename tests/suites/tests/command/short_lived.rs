//! Mount namespaces without the host's BPF file system, such as those of `ip netns exec` and of containers: what is pinned
//! there ends with them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    netns::Netns,
    process::{self, Background, Output, ensure_says},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

const CAUSE: &str = "does not have the host's BPF file system";

/// A namespace with the interfaces a0 and a1.
fn host() -> Result<(Netns, Tfo)> {
    let netns = Netns::new("private")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    Ok((netns, tfo))
}

/// `ip netns exec NAME tfo ARGUMENTS`.
fn exec(netns: &Netns, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns.name()]);
    command.arg(tfo::binary()).args(arguments);
    command
}

/// Runs the command in backticks that begins with `start`, as it is printed.
fn run_printed(text: &str, start: &str) -> Result<Output> {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let remedy = quoted.find(|it| it.starts_with(start));
    let remedy = remedy.with_context(|| format!("no `{start}...` in {text}"))?;
    let words = remedy
        .strip_prefix("tfo ")
        .context("not a command of tfo")?;
    let mut command = Command::new(tfo::binary());
    process::output(command.args(words.split(' ')), LIMIT)
}

#[test]
fn ip_netns_exec_attaches_nothing_and_its_remedy_does() -> Result<()> {
    let (netns, tfo) = host()?;
    let run = |arguments: &[&str]| process::output(&mut exec(&netns, arguments), LIMIT);
    let attach = format!("tfo --netns {} attach a0", netns.name());
    let refused = run(&["attach", "a0"])?;
    refused.ensure_refused(&[
        "tfo: not attached, since it would not last: ",
        CAUSE,
        &format!("`{attach}`"),
    ])?;
    xdp::ensure_detached(&netns, "a0")?;
    xdp::ensure_pinned(&netns, false)?;
    let doctor = run(&["doctor", "a0"])?;
    ensure!(doctor.status.code() == Some(3), "{doctor:#?}");
    let remedy = format!("-> `tfo --netns {} attach IFACE`", netns.name());
    ensure_says(&doctor.stdout, &["problem  bpffs", CAUSE, &remedy])?;

    let attached = run_printed(&refused.stderr, "tfo --netns")?;
    ensure!(attached.status.success(), "{attached:#?}");
    // It lasts.
    ensure!(xdp::attached(&netns, "a0")?.is_some());
    ensure_says(&tfo.done(&["status"])?, &["a0 "])?;

    // From in there, it is not seen, and that is said.
    let status = run(&["status"])?;
    ensure!(status.status.success(), "{status:#?}");
    ensure_says(&status.stdout, &["not attached", CAUSE])?;
    let remedy = run_printed(&status.stdout, "tfo --netns")?;
    ensure_says(&remedy.stdout, &["a0 "])?;
    let policy = run(&["policy", "set", "--bad", "drop"])?;
    policy.ensure_refused(&["nothing is attached here", CAUSE, "tfo --netns "])?;
    let doctor = tfo.run(&["doctor", "a0"])?;
    ensure!(!doctor.stdout.contains(CAUSE), "{doctor:#?}");
    Ok(())
}

/// As long as the service runs, its data path does.
#[test]
fn a_service_says_that_what_it_pins_ends_with_it() -> Result<()> {
    let (netns, _tfo) = host()?;
    let mut service = Background::start(&mut exec(&netns, &["run", "-i", "a0"]))?;
    service.wait_for_text("a0: attached", LIMIT)?;
    ensure!(xdp::attached(&netns, "a0")?.is_some());
    let output = service.terminate(LIMIT)?;
    let remedy = format!("`tfo --netns {} run`", netns.name());
    ensure_says(&output.stderr, &["WARN", CAUSE, &remedy])?;
    xdp::ensure_detached(&netns, "a0").map(drop)
}

/// A shell that runs `script` in new namespaces, as `unshare` makes them, with an interface a0 of its own and `$tfo`.
fn unshared(namespaces: &[&str], script: &str) -> Result<Output> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net"]).args(namespaces);
    let script = format!("ip link add a0 type veth peer name a1\n{script}");
    command
        .args(["sh", "-ec", &script])
        .env("tfo", tfo::binary());
    process::output(&mut command, LIMIT)
}

#[test]
fn a_namespace_without_a_name_is_given_by_its_file() -> Result<()> {
    for private in ["umount -l /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"] {
        // It lasts as long as the shell.
        let script = format!("{private}\n$tfo attach a0\n$tfo status");
        let output = unshared(&[], &script)?;
        ensure!(output.status.success(), "{output:#?}");
        ensure_says(&output.stdout, &["a0: attached", "a0 "])?;
        ensure_says(&output.stderr, &["warning: ", CAUSE, "`tfo --netns /proc/"])?;
    }
    Ok(())
}

#[test]
fn a_file_of_a_namespace_is_as_good_as_its_name() -> Result<()> {
    let mut shell = Command::new("unshare");
    let script = "ip link add a0 type veth peer name a1
        umount -l /sys/fs/bpf
        $tfo attach a0
        $tfo detach a0
        echo ready
        exec sleep 1000";
    shell.args(["--mount", "--net", "sh", "-c", script]);
    let mut shell = Background::start(shell.env("tfo", tfo::binary()))?;
    shell.wait_for_text("ready", LIMIT)?;
    let [_, told] = shell.written();
    let attached = run_printed(&told, "tfo --netns /proc/")?;
    ensure!(attached.status.success(), "{attached:#?}");
    let file = format!("/proc/{}/ns/net", shell.id());
    let detached = process::output(
        Command::new(tfo::binary()).args(["detach", "a0", "--netns", &file]),
        LIMIT,
    )?;
    ensure!(detached.status.success(), "{detached:#?}");
    Ok(())
}

/// Containers have a process 1 of their own.
#[test]
fn a_container_is_told_to_take_the_hosts() -> Result<()> {
    const CONTAINER: [&str; 3] = ["--pid", "--fork", "--mount-proc"];
    let remedy = "-v /sys/fs/bpf:/sys/fs/bpf)";
    // As process 1, whose end is the container's.
    let output = unshared(&CONTAINER, "umount -l /sys/fs/bpf; exec $tfo attach a0")?;
    output.ensure_refused(&[
        "not attached, since it would not last: this container ",
        CAUSE,
        remedy,
    ])?;
    let beside = "umount -l /sys/fs/bpf
        if $tfo doctor a0; then exit 9; fi
        $tfo attach a0";
    let output = unshared(&CONTAINER, beside)?;
    ensure!(output.status.success(), "{output:#?}");
    ensure_says(&output.stdout, &["warning  bpffs", CAUSE, "a0: attached"])?;
    ensure_says(&output.stderr, &["warning: this container ", remedy])?;
    // The remedy.
    let output = unshared(&CONTAINER, "$tfo attach a0\n$tfo detach a0")?;
    ensure!(
        output.status.success() && !output.stderr.contains(CAUSE),
        "{output:#?}"
    );
    Ok(())
}
