//! `tfo` in containers and under limits: each refusal of the system has a cause and a remedy of its own.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    process::{self, Background, Output, ensure_says},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

use super::confinement::{READ_ONLY_SYSCTLS, Refused, after, run_after, with_errno};

/// A namespace with the interfaces a0 and a1.
fn host() -> Result<(Netns, Tfo)> {
    let netns = Netns::new("confined")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    Ok((netns, tfo))
}

#[test]
fn few_open_files_are_told_and_no_panic() -> Result<()> {
    let (netns, _tfo) = host()?;
    for limit in 3..=30 {
        for command in ["attach a0", "run -i a0", "listeners", "status", "doctor a0"] {
            let tfo = tfo::binary().display().to_string();
            let script = format!(
                "ulimit -n {limit}; exec {tfo} {command} --netns {}",
                netns.name()
            );
            let output = process::output(Command::new("sh").args(["-c", &script]), LIMIT)?;
            let status = output.status.code();
            // Below 5, the program's libraries cannot be loaded.
            ensure!(
                limit < 5 || matches!(status, Some(0 | 1 | 3)),
                "{script}: {output:#?}"
            );
            if status == Some(1) {
                let told = output.stderr.lines().next_back().unwrap_or_default();
                ensure_says(
                    told,
                    &[
                        "too many open files",
                        &format!("limit {limit}"),
                        "ulimit -n",
                    ],
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn more_open_files_are_enough() -> Result<()> {
    let (netns, tfo) = host()?;
    let attach = format!(
        "{} attach a0 --netns {}",
        tfo::binary().display(),
        netns.name()
    );
    let script = format!("if (ulimit -n 8; {attach}); then exit 9; fi\nulimit -n 1024\n{attach}");
    let said = process::succeed(Command::new("sh").args(["-ec", &script]), LIMIT)?;
    ensure_says(&said, &["a0: attached"])?;
    tfo.done(&["detach", "a0"]).map(drop)
}

/// Calls that container runtimes refuse by default, whatever the capabilities.
const BY_DEFAULT: [i64; 14] = [
    libc::SYS_bpf,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

#[test]
fn a_container_runtimes_default_filter_is_named() -> Result<()> {
    let (netns, _tfo) = host()?;
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(tfo::binary());
        let refused = BY_DEFAULT.map(Refused::Call);
        with_errno(command.args(arguments), &refused, libc::EPERM)?;
        // As the process of a container is: inside already.
        netns.run(|| process::output(&mut command, LIMIT))
    };
    let filter = ["seccomp", "--security-opt seccomp="];
    let parts = ["bpf(2) is refused", filter[0], filter[1]];
    run(&["attach", "a0"])?.ensure_refused(&parts)?;
    let service = run(&["run", "-i", "a0"])?;
    ensure!(service.status.code() == Some(1), "{service:#?}");
    ensure_says(&service.stderr, &parts)?;
    let doctor = run(&["doctor", "a0"])?;
    ensure!(doctor.status.code() == Some(3), "{doctor:#?}");
    ensure_says(&doctor.stdout, &parts)?;
    // Another namespace cannot be entered from there.
    let section = format!(
        "[[namespace]]\nname = '{}'\ninterfaces = ['a0']\n",
        netns.name()
    );
    let file = KeyFile::new(&section)?;
    for arguments in [
        &["attach", "a0", "--netns", netns.name()][..],
        &["run", "-c", file.path()],
    ] {
        let output = run(arguments)?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        ensure_says(&output.stderr, &["forbids setns(2)", filter[0], filter[1]])?;
    }
    Ok(())
}

#[test]
fn file_systems_that_are_absent_or_read_only_are_told() -> Result<()> {
    let (netns, _tfo) = host()?;
    let attach = ["attach", "a0"];
    let output = run_after("mount -t tmpfs none /sys", &netns, &attach)?;
    let remedy = "mount -t sysfs sysfs /sys";
    output.ensure_refused(&["/sys is not mounted", remedy])?;
    // What was mounted below is kept beside.
    let mended = format!(
        "mount --bind /sys/fs/bpf /mnt\nmount -t tmpfs none /sys\n{remedy}\nmount --bind /mnt /sys/fs/bpf"
    );
    let output = run_after(&mended, &netns, &attach)?;
    ensure!(output.status.success(), "{output:#?}");
    let absent = "mount -t tmpfs none /proc";
    let remedy = "mount -t proc proc /proc";
    for (before, status) in [(absent.to_owned(), 1), (format!("{absent}\n{remedy}"), 0)] {
        let output = run_after(&before, &netns, &["status"])?;
        ensure!(output.status.code() == Some(status), "{output:#?}");
        ensure!(status == 0 || output.stderr.contains(remedy), "{output:#?}");
    }
    let read_only = "mount --bind /sys/fs/bpf /sys/fs/bpf; mount -o remount,bind,ro /sys/fs/bpf";
    let output = run_after(read_only, &netns, &attach)?;
    let parts = ["tfo: /sys/fs/bpf is mounted read-only", "remount,rw"];
    output.ensure_refused(&parts)?;
    let output = run_after(read_only, &netns, &["run", "-i", "a0"])?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure_says(&output.stderr, &parts)?;
    let doctor = run_after(read_only, &netns, &["doctor", "a0"])?;
    ensure_says(
        &doctor.stdout,
        &["/sys/fs/bpf is mounted read-only", "-> mount -o remount,rw"],
    )
}

/// The kernel makes its key itself.
#[test]
fn attaching_writes_no_sysctl() -> Result<()> {
    let (netns, tfo) = host()?;
    let read_only = READ_ONLY_SYSCTLS;
    let output = run_after(read_only, &netns, &["attach", "a0"])?;
    ensure!(output.status.success(), "{output:#?}");
    let keys = tfo.json(&["keys", "show"])?;
    ensure!(
        keys["agree"] == true && keys["kernel"][0].is_string(),
        "{keys}"
    );
    let output = run_after(read_only, &netns, &["keys", "rotate"])?;
    output.ensure_refused(&["/proc/sys is mounted read-only", "--key-source kernel"])?;
    let doctor = run_after(read_only, &netns, &["doctor", "a0"])?;
    ensure_says(
        &doctor.stdout,
        &["cannot be written here", "make /proc/sys writable"],
    )
}

/// It attaches, and says why no key changes; the key source in the remedy needs no such change.
#[test]
fn a_service_that_can_write_no_sysctl_says_so() -> Result<()> {
    let (netns, _tfo) = host()?;
    let start = |more: &[&str]| {
        let run = ["run", "-i", "a0", "--detach-on-exit"];
        Background::start(&mut after(
            READ_ONLY_SYSCTLS,
            &netns,
            &[&run[..], more].concat(),
        ))
    };
    let mut service = start(&["--interval", "1s"])?;
    service.wait_for_text("keys not changed", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    let parts = [
        "a0: attached",
        "/proc/sys is mounted read-only",
        "--key-source kernel",
    ];
    ensure_says(&output.stderr, &parts)?;
    let mut service = start(&["--key-source", "kernel"])?;
    service.wait_for_text("capabilities left", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    ensure!(
        output.status.success() && !output.stderr.contains("ERROR"),
        "{output:#?}"
    );
    Ok(())
}

/// The lock file of a service needs `/run/tfo`; a command needs none.
#[test]
fn a_run_directory_that_is_full_or_read_only_is_told() -> Result<()> {
    let (netns, tfo) = host()?;
    for (options, then, parts) in [
        ("nr_inodes=1", "", ["No space left", "free space or inodes"]),
        ("ro", "", ["Read-only file system", "that can be written"]),
        (
            "rw",
            "touch /run/tfo",
            ["File exists", "make /run/tfo a directory"],
        ),
    ] {
        // The namespace's own file is below /run.
        let script = format!(
            "exec 9<\"/run/netns/$net\"; mount -t tmpfs -o {options} none /run
            {then}
            $tfo attach a0 --netns /proc/self/fd/9 >&2
            $tfo detach a0 --netns /proc/self/fd/9 >&2
            exec $tfo run -i a0 --netns /proc/self/fd/9"
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", &script])
            .env("tfo", tfo::binary())
            .env("net", netns.name());
        let output = process::output(&mut command, LIMIT)?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        let told = output.stderr.lines().next_back().unwrap_or_default();
        ensure_says(told, &["tfo: /run/tfo/net", "the lock file against"])?;
        ensure_says(told, &parts)?;
    }
    ensure!(tfo.run(&["status"])?.status.success());
    Ok(())
}

/// Not flock(2) is refused, but the file.
#[test]
fn an_immutable_run_directory_is_told_and_the_remedy_helps() -> Result<()> {
    let (netns, _tfo) = host()?;
    let script = format!(
        "mkdir -p /run/tfo
        mount -t tmpfs none /run/tfo
        chattr +i /run/tfo
        if $tfo run -i a0 --netns {name}; then exit 9; fi
        chattr -i /run/tfo
        exec $tfo run -i a0 --netns {name} --detach-on-exit",
        name = netns.name()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script]);
    let mut service = Background::start(command.env("tfo", tfo::binary()))?;
    service.wait_for_text("capabilities left", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    let parts = ["not permitted", "`chattr -i /run/tfo`", "a0: detached"];
    ensure_says(&output.stderr, &parts)?;
    ensure!(!output.stderr.contains("flock"), "{output:#?}");
    Ok(())
}

#[test]
fn a_refused_lock_names_the_filter() -> Result<()> {
    let (netns, tfo) = host()?;
    tfo.done(&["attach", "a0"])?;
    for (arguments, file) in [
        (&["keys", "rotate"][..], "/sys/fs/bpf/tfo/"),
        (&["attach", "a1"], "/sys/fs/bpf/tfo/"),
        (&["run", "-i", "a0"], "/run/tfo/net"),
    ] {
        let mut command = Command::new(tfo::binary());
        command.args(arguments).args(["--netns", netns.name()]);
        with_errno(&mut command, &[Refused::Call(libc::SYS_flock)], libc::EPERM)?;
        let output = process::output(&mut command, LIMIT)?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        let told = output.stderr.lines().next_back().unwrap_or_default();
        let parts = [
            file,
            "not permitted",
            "forbids flock(2)",
            "--security-opt seccomp=",
        ];
        ensure_says(told, &parts)?;
    }
    Ok(())
}

/// Root there has all capabilities, which do not count for bpf(2).
#[test]
fn root_of_a_user_namespace_is_told_the_cause() -> Result<()> {
    let (netns, tfo) = host()?;
    tfo.done(&["attach", "a0"])?;
    let run = |arguments: &[&str]| {
        let mut command = netns.command("unshare");
        command.args(["--user", "--map-root-user"]);
        process::output(command.arg(tfo::binary()).args(arguments), LIMIT)
    };
    let parts = [
        "bpf(2) is refused",
        "in a user namespace",
        "run tfo in the host's",
    ];
    for arguments in [
        &["attach", "a1"][..],
        &["attach", "--replace", "a0"],
        &["listeners"],
        &["keys", "rotate"],
        &["policy", "set", "--bad", "drop"],
    ] {
        let output = run(arguments)?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        let told = output.stderr.lines().next_back().unwrap_or_default();
        ensure_says(told, &parts).with_context(|| format!("{arguments:?}"))?;
    }
    let doctor = run(&["doctor", "a0"])?;
    ensure!(doctor.status.code() == Some(3), "{doctor:#?}");
    ensure_says(&doctor.stdout, &parts)?;
    // What is pinned can be read by who owns it.
    let stats = run(&["stats"])?;
    ensure!(
        stats.status.success() || stats.stderr.contains(parts[1]),
        "{stats:#?}"
    );
    let mut service = netns.command("unshare");
    service.args(["--user", "--map-root-user"]);
    service.arg(tfo::binary()).args(["run", "-i", "a0"]);
    let output = process::output(&mut service, LIMIT)?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure_says(&output.stderr, &parts)
}

#[test]
fn alternative_names_are_understood() -> Result<()> {
    let (netns, tfo) = host()?;
    netns.configure(&["link property add dev a0 altname uplink-of-this-host"])?;
    let attached = || xdp::attached(&netns, "a0").map(|it| it.is_some());
    let name = "uplink-of-this-host";
    tfo.done(&["attach", name])?;
    ensure!(attached()?);
    let doctor = tfo.run(&["doctor", name])?;
    ensure_says(&doctor.stdout, &["a0 attached", "a0 XDP"])?;
    tfo.done(&["detach", name])?;
    ensure!(!attached()?);
    let config = KeyFile::new(&format!("interfaces = [\"{name}\"]\n"))?;
    for source in [["-i", name], ["-c", config.path()]] {
        let mut service = tfo.start(&[&["run", "--detach-on-exit"][..], &source].concat())?;
        service.wait_for_text("a0: attached", LIMIT)?;
        let output = service.terminate(LIMIT)?;
        ensure!(
            output.status.success() && !output.stderr.contains("no such"),
            "{output:#?}"
        );
    }
    Ok(())
}

#[test]
fn names_that_are_no_text_are_escaped_and_not_logged() -> Result<()> {
    let (netns, tfo) = host()?;
    netns.configure(&["link set a1 name \u{1b}[31mred"])?;
    let output = tfo.run(&["attach", "nowhere"])?;
    output.ensure_refused(&["\\u{1b}[31mred"])?;
    ensure!(!output.stderr.contains('\u{1b}'), "{output:#?}");
    let add = |name: &[u8]| {
        let mut command = netns.command("ip");
        command.args(["link", "add"]).arg(OsStr::from_bytes(name));
        process::succeed(command.args(["type", "veth", "peer", "name", "b1"]), LIMIT)
    };
    let mut service = tfo.start(&["run", "-i", "a0", "--detach-on-exit"])?;
    service.wait_for_text("capabilities left", LIMIT)?;
    add(b"x\xff")?;
    // Later events are followed all the same.
    netns.configure(&["link set a0 name a9"])?;
    service.wait_for_text("a0: renamed to a9", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    ensure!(!output.stderr.contains("decode"), "{output:#?}");
    Ok(())
}
