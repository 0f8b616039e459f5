//! Invalid input and missing kernel features: `tfo` prints one line on standard error with the thing, the cause and
//! the remedy, exits with the documented status, and changes nothing.

use std::{
    fs, os::unix::fs::PermissionsExt as _, os::unix::process::CommandExt as _, process::Command,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use tfo_common::abi::XDP_PROGRAM;
use tfo_testbed::{
    keys::{self, KeyFile},
    process::{self, Output},
    tfo::{self, LIMIT, Tfo},
    veth::{Pair, SERVER_INTERFACE},
    xdp,
};
use tfo_userspace::datapath::OBJECT;

use super::confinement::{AS_THE_HOSTS, READ_ONLY_SYSCTLS, Refused, run_after, with_errno};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

const KEY: &str = "7b1d0f2e-90a4c3b8-5e6d7f10-2a3b4c5d";

/// Fails unless `tfo` exited with status 1 and one line that contains all of `parts`.
fn ensure_refused(output: &Output, parts: &[&str]) -> Result<()> {
    output.ensure_refused(&["tfo: "])?;
    output.ensure_refused(parts)
}

/// A namespace pair and a `tfo` that runs in the server's namespace.
fn server() -> Result<(Pair, Tfo)> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    Ok((pair, tfo))
}

#[test]
fn an_unknown_interface_is_named_with_those_that_there_are() -> Result<()> {
    let (pair, tfo) = server()?;
    for command in ["attach", "detach"] {
        let output = tfo.run(&[command, "eth99"])?;
        ensure_refused(&output, &["eth99", SERVER_INTERFACE])?;
    }
    xdp::ensure_pinned(&pair.server, false)?;
    Ok(())
}

#[test]
fn an_unknown_namespace_is_named_with_where_it_would_be() -> Result<()> {
    for name in ["tfo-nowhere", "/proc/self/ns/tfo-nowhere"] {
        let mut command = Command::new(tfo::binary());
        command.args(["status", "--netns", name]);
        let output = process::output(&mut command, LIMIT)?;
        ensure_refused(&output, &[name, "there is none", "ip netns list"])?;
    }
    // A regular file, not a namespace.
    let file = KeyFile::new(KEY)?;
    let mut command = Command::new(tfo::binary());
    command.args(["status", "--netns", file.path()]);
    let output = process::output(&mut command, LIMIT)?;
    ensure_refused(&output, &[file.path(), "is no network namespace"])
}

#[test]
fn who_is_not_root_is_told_what_it_takes() -> Result<()> {
    // Other users may have no access to the build directory.
    let directory = std::env::temp_dir().join(format!("tfo-t{}-bin", std::process::id()));
    fs::create_dir_all(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let binary = directory.join("tfo");
    fs::copy(tfo::binary(), &binary)?;
    let result = [
        &["attach", "lo"] as &[_],
        &["status"],
        &["stats"],
        &["keys", "rotate"],
    ]
    .into_iter()
    .try_for_each(|arguments| {
        let mut command = Command::new(&binary);
        command.args(arguments).uid(65_534).gid(65_534);
        let output = process::output(&mut command, LIMIT)?;
        ensure_refused(&output, &["not permitted", "CAP_BPF", "root"])
    });
    fs::remove_dir_all(&directory)?;
    result
}

#[test]
fn a_kernel_without_bpf_is_told_from_one_without_rights() -> Result<()> {
    let (pair, _tfo) = server()?;
    let mut command = Command::new(tfo::binary());
    command.args(["attach", SERVER_INTERFACE, "--netns", pair.server.name()]);
    // As on a kernel without it.
    with_errno(&mut command, &[Refused::Call(libc::SYS_bpf)], libc::ENOSYS)?;
    let output = process::output(&mut command, LIMIT)?;
    ensure_refused(&output, &["no BPF", "CONFIG_BPF_SYSCALL"])
}

#[test]
fn a_kernel_without_btf_is_told() -> Result<()> {
    let (pair, _tfo) = server()?;
    let output = run_after(
        "mount -t tmpfs none /sys/kernel/btf",
        &pair.server,
        &["attach", SERVER_INTERFACE],
    )?;
    ensure_refused(&output, &["no BTF", "CONFIG_DEBUG_INFO_BTF"])
}

#[test]
fn the_bpf_file_system_is_mounted_where_it_can_be() -> Result<()> {
    let (pair, _tfo) = server()?;
    // Mounts and pins made here end with the mount namespace.
    let fresh = format!("{AS_THE_HOSTS}; while umount /sys/fs/bpf 2>/dev/null; do :; done");
    let output = run_after(&fresh, &pair.server, &["attach", SERVER_INTERFACE])?;
    ensure!(output.status.success(), "{output:#?}");
    let hidden = format!("{AS_THE_HOSTS}; mount -t tmpfs none /sys/fs");
    let output = run_after(&hidden, &pair.server, &["attach", SERVER_INTERFACE])?;
    ensure_refused(&output, &["/sys/fs/bpf", "mount -t bpf"])
}

#[test]
fn another_xdp_program_is_named_with_its_id_and_left_alone() -> Result<()> {
    let (pair, tfo) = server()?;
    let mut other = Ebpf::load(OBJECT)?;
    let program: &mut Xdp = other
        .program_mut(XDP_PROGRAM)
        .context("no program")?
        .try_into()?;
    program.load()?;
    pair.server
        .run(|| program.attach(SERVER_INTERFACE, XdpMode::Driver).map(drop))?;
    let id = program.info()?.id();

    let output = tfo.run(&["attach", SERVER_INTERFACE, "--mode", "native"])?;
    let shown = format!("{XDP_PROGRAM} (id {id}, native)");
    ensure_refused(
        &output,
        &[SERVER_INTERFACE, "another XDP program", &shown, "xdp off"],
    )?;
    let there = || xdp::xdp_attached(&pair.server, SERVER_INTERFACE);
    let other = Some((xdp::Mode::Native, u64::from(id)));
    ensure!(there()? == other);
    xdp::ensure_pinned(&pair.server, false)?;

    // Beside it in traffic control, and from there no further.
    tfo.done(&["attach", SERVER_INTERFACE])?;
    let status = || Ok::<_, anyhow::Error>(tfo.json(&["status"])?["interfaces"].clone());
    let before = status()?;
    for mode in ["native", "generic"] {
        let output = tfo.run(&["attach", "--replace", SERVER_INTERFACE, "--mode", mode])?;
        ensure_refused(
            &output,
            &[SERVER_INTERFACE, "another XDP program", &shown, "xdp off"],
        )?;
    }
    let after = status()?;
    for member in ["mode", "program_id", "mode_reason"] {
        ensure!(
            before[0][member] == after[0][member] && !after[0][member].is_null(),
            "{before:#} {after:#}"
        );
    }
    ensure!(there()? == other);
    Ok(())
}

#[test]
fn a_second_attach_is_refused_and_loses_nothing() -> Result<()> {
    let (pair, tfo) = server()?;
    tfo.done(&["attach", SERVER_INTERFACE])?;
    let before = xdp::attached(&pair.server, SERVER_INTERFACE)?;
    let output = tfo.run(&["attach", SERVER_INTERFACE])?;
    ensure_refused(
        &output,
        &[SERVER_INTERFACE, "attached already", "tfo detach"],
    )?;
    ensure!(xdp::attached(&pair.server, SERVER_INTERFACE)? == before);
    tfo.stats()?;
    Ok(())
}

#[test]
fn what_is_not_attached_cannot_be_detached_read_or_rotated() -> Result<()> {
    let (pair, tfo) = server()?;
    pair.server.set_sysctl("net.ipv4.tcp_fastopen_key", KEY)?;
    let output = tfo.run(&["detach", SERVER_INTERFACE])?;
    ensure_refused(&output, &[SERVER_INTERFACE, "not attached", "tfo status"])?;
    let file = KeyFile::new(KEY)?;
    for arguments in [
        &["stats"] as &[_],
        &["stats", "--json"],
        &["keys", "rotate"],
        &["keys", "import"],
        &["keys", "set", "--file", file.path()],
    ] {
        let output = tfo.run(arguments)?;
        ensure_refused(&output, &["nothing is attached", "tfo attach"])?;
    }
    ensure!(pair.server.sysctl("net.ipv4.tcp_fastopen_key")? == KEY);
    tfo.done(&["detach", "--all"])?;
    Ok(())
}

#[test]
fn a_driver_that_cannot_is_named() -> Result<()> {
    let (pair, tfo) = server()?;
    let output = tfo.run(&["attach", "lo", "--mode", "native"])?;
    ensure_refused(
        &output,
        &[
            "lo",
            "native",
            "Underlying driver does not support XDP",
            "--mode auto",
        ],
    )?;
    xdp::ensure_pinned(&pair.server, false)?;
    tfo.done(&["attach", "lo"])?;
    // What would be native elsewhere says why it is not here.
    let dropping = tfo.run(&["policy", "set", "--bad", "drop"])?;
    ensure!(dropping.status.success(), "{dropping:?}");
    let status = tfo.json(&["status"])?;
    let reason = status["interfaces"][0]["mode_reason"].as_str();
    ensure!(
        reason.is_some_and(|it| it.contains("no native XDP")),
        "{status}"
    );
    Ok(())
}

#[test]
fn malformed_keys_change_nothing_and_are_not_shown() -> Result<()> {
    let (pair, tfo) = server()?;
    tfo.done(&["attach", SERVER_INTERFACE])?;
    let before = keys::of_kernel(&pair.server)?;
    for (text, part) in [
        ("", "no key"),
        ("1-2-3", "3 groups"),
        ("1-2-3-4", "group 1 is not 8"),
        ("0x1d0f2e-90a4c3b8-5e6d7f10-2a3b4c5d", "group 1"),
        ("7b1d0f2e-90a4c3b8-5e6d7f10-2a3b4c5d trailing", "group 4"),
        ("7b1d0f2e-90a4c3b8-5e6d7f10-2a3b4c5d,", "key 2"),
        ("7b1d0f2e-90a4c3b8-5e6d7f10-2a3b4c5d,5-6", "key 2"),
        ("1-1-1-1,2-2-2-2,3-3-3-3", "group 1"),
    ] {
        let file = KeyFile::new(text)?;
        let output = tfo.run(&["keys", "set", "--file", file.path()])?;
        ensure_refused(&output, &[file.path(), part])?;
        ensure!(!output.stderr.contains("90a4c3b8"), "{output:#?}");
    }
    ensure!(keys::of_kernel(&pair.server)? == before);
    ensure!(tfo.json(&["keys", "show"])?["agree"] == true);
    Ok(())
}

#[test]
fn key_files_that_others_can_read_or_that_are_none_are_refused() -> Result<()> {
    let (pair, tfo) = server()?;
    tfo.done(&["attach", SERVER_INTERFACE])?;
    let before = keys::of_kernel(&pair.server)?;
    let file = KeyFile::new(KEY)?;
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))?;
        let output = tfo.run(&["keys", "set", "--file", file.path()])?;
        let shown = format!("mode 0{mode:o}");
        ensure_refused(&output, &[file.path(), &shown, "chmod 0600"])?;
    }
    for (path, part) in [
        ("/nonexistent/key", "No such file"),
        ("/tmp", "not a regular file"),
    ] {
        let output = tfo.run(&["keys", "set", "--file", path])?;
        ensure_refused(&output, &[path, part])?;
    }
    ensure!(keys::of_kernel(&pair.server)? == before);
    Ok(())
}

#[test]
fn a_sysctl_that_cannot_be_written_leaves_both_sides_as_they_were() -> Result<()> {
    let (pair, tfo) = server()?;
    tfo.done(&["attach", SERVER_INTERFACE])?;
    let before = keys::of_kernel(&pair.server)?;
    let output = run_after(READ_ONLY_SYSCTLS, &pair.server, &["keys", "rotate"])?;
    ensure_refused(
        &output,
        &["keys not changed", "tcp_fastopen_key", "Read-only"],
    )?;
    ensure!(keys::of_kernel(&pair.server)? == before);
    ensure!(tfo.json(&["keys", "show"])?["agree"] == true);
    Ok(())
}

#[test]
fn fast_open_that_is_off_is_a_warning_with_its_remedy() -> Result<()> {
    let (pair, tfo) = server()?;
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "1")?;
    for arguments in [&["attach", SERVER_INTERFACE] as &[_], &["status"]] {
        let output = tfo.run(arguments)?;
        ensure!(output.status.success(), "{output:#?}");
        ensure!(
            output.stderr.contains("warning: TCP Fast Open is off")
                && output.stderr.contains("sysctl -w net.ipv4.tcp_fastopen=3"),
            "{output:#?}"
        );
    }
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    let output = tfo.run(&["status"])?;
    ensure!(output.stderr.is_empty(), "{output:#?}");
    Ok(())
}

#[test]
fn usage_errors_have_their_own_status() -> Result<()> {
    let (_pair, tfo) = server()?;
    for arguments in [
        &["attach"] as &[_],
        &["detach"],
        &["detach", "--all", SERVER_INTERFACE],
        &["attach", SERVER_INTERFACE, "--mode", "fast"],
        &["run", "-i", SERVER_INTERFACE, "--interval", "0s"],
        &["run", "-i", SERVER_INTERFACE, "--interval", "soon"],
        &["stats", "--watch", "0"],
        &["keys", "set"],
        &["stats", "--by", "colour"],
        &["dance"],
    ] {
        let output = tfo.run(arguments)?;
        ensure!(output.status.code() == Some(USAGE), "{output:#?}");
        ensure!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{output:#?}"
        );
    }
    Ok(())
}

#[test]
fn verbose_shows_the_causes() -> Result<()> {
    let (_pair, tfo) = server()?;
    let output = tfo.run(&["attach", "eth99", "-v"])?;
    ensure!(output.status.code() == Some(FAILED), "{output:#?}");
    ensure!(
        output.stderr.starts_with("tfo: interface eth99"),
        "{output:#?}"
    );
    Ok(())
}
