//! Access of the host's other users: to pins, locks, memory and the configuration.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::Command,
};

use anyhow::{Result, ensure};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    pins,
    poll::eventually,
    process::{self, Background, ensure_says},
    testbed::Testbed,
    tfo::{self, LIMIT, Tfo},
    veth::{Pair, SERVER_INTERFACE},
};

use super::confinement::AS_THE_HOSTS;

/// Runs `script` as root in a new mount namespace with a BPF file system that anyone may write to, as `mount -t bpf`
/// leaves it. `$tfo` and `$net` are the command and its namespace; `$nobody` begins a command of another user.
fn in_open_bpffs(netns: &Netns, script: &str) -> Result<process::Output> {
    let script = format!(
        "{AS_THE_HOSTS}\nmount -t bpf -o mode=1777 bpf /sys/fs/bpf\ncd /sys/fs/bpf\n{script}"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", &script])
        .env("tfo", tfo::binary())
        .env("net", format!("--netns={}", netns.name()))
        .env(
            "nobody",
            "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all",
        );
    process::output(&mut command, 3 * LIMIT)
}

#[test]
fn pins_are_closed_to_other_users_who_cannot_lock_them() -> Result<()> {
    let pair = Pair::new()?;
    let script = format!(
        "$tfo attach {SERVER_INTERFACE} $net
        for dir in $(find tfo -type d); do stat -c '%a %u %n' $dir; done
        for dir in $(find tfo -type d); do
            if $nobody flock --nonblock $dir echo locked; then exit 9; fi
        done
        # An earlier tfo left them open.
        chmod 0755 tfo tfo/*
        $tfo keys rotate $net
        for dir in tfo tfo/*; do stat -c '%a %u %n' $dir; done
        $tfo detach --all $net"
    );
    let output = in_open_bpffs(&pair.server, &script)?;
    ensure!(output.status.success(), "{output:#?}");
    let modes: Vec<_> = output
        .stdout
        .lines()
        .filter(|it| it.contains(" tfo"))
        .collect();
    // tfo, the layout, the namespace and the interface; then the first two.
    ensure!(
        modes.len() == 6 && modes.iter().all(|line| line.starts_with("700 0 tfo")),
        "{output:#?}"
    );
    ensure!(output.stderr.contains("Permission denied"), "{output:#?}");
    Ok(())
}

#[test]
fn a_directory_that_another_user_made_is_refused_with_the_remedy() -> Result<()> {
    let pair = Pair::new()?;
    let version = format!("v{}", tfo_common::abi::LAYOUT_VERSION);
    for (make, parts, remedy) in [
        (
            format!("$nobody mkdir -p tfo/{version}"),
            [
                "/sys/fs/bpf/tfo: user 65534 owns it",
                "rm -r /sys/fs/bpf/tfo",
            ],
            "rm -r tfo".to_owned(),
        ),
        (
            "$nobody ln -s /tmp tfo".to_owned(),
            [
                "/sys/fs/bpf/tfo: user 65534 owns it",
                "rm -r /sys/fs/bpf/tfo",
            ],
            "rm -r tfo".to_owned(),
        ),
        (
            "mkdir tfo; chmod 0777 tfo".to_owned(),
            ["/sys/fs/bpf/tfo: mode 0777", "chmod 0700 /sys/fs/bpf/tfo"],
            "chmod 0700 tfo".to_owned(),
        ),
        (
            format!("mkdir -m 0700 tfo; mkdir tfo/{version}; chown 65534 tfo/{version}"),
            ["user 65534 owns it", "rm -r /sys/fs/bpf/tfo/v"],
            "rm -r tfo/*".to_owned(),
        ),
        (
            "ln -s /tmp tfo".to_owned(),
            ["/sys/fs/bpf/tfo: not a directory", "rm /sys/fs/bpf/tfo"],
            "rm tfo".to_owned(),
        ),
        (
            "chown 65534 .".to_owned(),
            ["/sys/fs/bpf: user 65534 owns it", "chown root /sys/fs/bpf"],
            "chown root .".to_owned(),
        ),
        (
            "chmod 0777 .".to_owned(),
            ["/sys/fs/bpf: mode 0777", "chmod 0700 /sys/fs/bpf"],
            "chmod 0700 .".to_owned(),
        ),
    ] {
        let attach = format!("$tfo attach {SERVER_INTERFACE} $net");
        let refused = in_open_bpffs(&pair.server, &format!("{make}\nexec {attach}"))?;
        refused.ensure_refused(&parts)?;
        let run = format!("{make}\nexec $tfo run -i {SERVER_INTERFACE} $net");
        let output = in_open_bpffs(&pair.server, &run)?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        ensure_says(&output.stderr, &parts)?;
        let doctor = format!("{make}\n$tfo doctor $net || test $? = 3");
        let output = in_open_bpffs(&pair.server, &doctor)?;
        ensure!(output.status.success(), "{output:#?}");
        ensure_says(&output.stdout, &["problem  pins", parts[1]])?;
        let mended = format!("{make}\n{remedy}\n{attach}\n$tfo detach --all $net");
        let output = in_open_bpffs(&pair.server, &mended)?;
        ensure!(output.status.success(), "{output:#?}");
    }
    Ok(())
}

#[test]
fn the_bpf_file_system_is_mounted_closed() -> Result<()> {
    let pair = Pair::new()?;
    let script = format!(
        "cd /; while umount /sys/fs/bpf 2>/dev/null; do :; done
        $tfo attach {SERVER_INTERFACE} $net
        stat -f -c %T /sys/fs/bpf; stat -c %a /sys/fs/bpf
        $tfo doctor $net | grep bpffs
        $tfo detach --all $net"
    );
    let output = in_open_bpffs(&pair.server, &script)?;
    ensure!(output.status.success(), "{output:#?}");
    ensure_says(
        &output.stdout,
        &["bpf_fs\n1700\n", "/sys/fs/bpf is mounted, and takes pins\n"],
    )
}

#[test]
fn a_wait_for_a_lock_ends_and_names_the_holder() -> Result<()> {
    let testbed = Testbed::new()?;
    let file = fs::File::open(pins::directory_of(&testbed.pair.server)?)?;
    let this = format!("process {} (", std::process::id());
    let rotate = |limit: &str| {
        let mut command = Command::new(tfo::binary());
        command.args(["keys", "rotate", "--netns", testbed.pair.server.name()]);
        process::output(command.env("TFO_TEST_LOCK_WAIT", limit), LIMIT)
    };
    flock(&file, FlockOperation::LockExclusive)?;
    let refused = rotate("1")?;
    refused.ensure_refused(&["/sys/fs/bpf/tfo/", "locked", &this, "has held the lock"])?;
    // What only reads does not wait.
    for reads in [&["status"][..], &["stats"], &["keys", "show"]] {
        testbed.tfo.done(reads)?;
    }
    flock(&file, FlockOperation::Unlock)?;
    ensure!(rotate("1")?.status.success());
    Ok(())
}

/// Starts a program with the service's capabilities and core dumps of any size, in `dir`.
fn dumping(netns: &Netns, dir: &str, program: &[&str]) -> Result<Background> {
    let mut command = netns.command("setpriv");
    command
        .args([
            "--bounding-set=-all,+bpf,+net_admin,+perfmon",
            "--inh-caps=-all",
        ])
        .args([
            "sh",
            "-ec",
            "ulimit -c unlimited; cd \"$0\"; exec \"$@\"",
            dir,
        ])
        .args(program);
    Background::start(&mut command)
}

/// `true` if a process of the same user and with the same capabilities may open the memory of `process`.
fn is_readable(netns: &Netns, process: u32) -> Result<bool> {
    let mut command = netns.command("setpriv");
    command
        .args([
            "--bounding-set=-all,+bpf,+net_admin,+perfmon",
            "--inh-caps=-all",
        ])
        .args(["sh", "-c", &format!("exec 3< /proc/{process}/mem")]);
    Ok(process::output(&mut command, LIMIT)?.status.success())
}

#[test]
fn memory_is_not_dumped() -> Result<()> {
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    let dir = std::env::temp_dir().join(format!("tfo-t{}.core", std::process::id()));
    fs::create_dir(&dir)?;
    let dir_text = dir.display().to_string();
    let tfo = tfo::binary().display().to_string();
    let run = [&tfo, "run", "-i", SERVER_INTERFACE];
    let mut dumped = Vec::new();
    for program in [&["sleep", "1000"][..], &run] {
        let mut running = dumping(server, &dir_text, program)?;
        if program.len() == run.len() {
            running.wait_for_text("capabilities left", LIMIT)?;
        }
        eventually("the program runs", LIMIT, || {
            let command = fs::read_to_string(format!("/proc/{}/cmdline", running.id()))?;
            Ok(command.starts_with(program[0]))
        })?;
        let readable = is_readable(server, running.id())?;
        running.signal(Signal::ABORT)?;
        let ended = running.wait(LIMIT)?;
        dumped.push((readable, ended.status.core_dumped()));
    }
    fs::remove_dir_all(&dir)?;
    println!("sleep, tfo: readable, dumped: {dumped:?}");
    // The other program shows what the host's settings (core_pattern, Yama) allow at all.
    ensure!(dumped[1] == (false, false), "{dumped:?}");
    Ok(())
}

#[test]
fn a_configuration_that_others_may_write_is_refused() -> Result<()> {
    let netns = Netns::new("config")?;
    let tfo = Tfo::new(&netns);
    // Only then does a policy need its file.
    tfo.done(&["attach", "lo"])?;
    let file = KeyFile::new("interfaces = ['lo']\n[policy]\nbad = 'fallback'\n")?;
    let set_mode = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode));
    for mode in [0o666, 0o602, 0o620] {
        set_mode(mode)?;
        let shown = format!("mode {mode:04o} lets other users change it");
        for command in [
            &["run", "-c", file.path()][..],
            &["farm", "-c", file.path(), "status"],
            &["policy", "set", "--file", file.path()],
        ] {
            let output = tfo.run(command)?;
            ensure!(output.status.code() == Some(1), "{command:?}: {output:#?}");
            ensure_says(&output.stderr, &[&shown, "chmod go-w", file.path()])?;
        }
    }
    set_mode(0o644)?;
    std::os::unix::fs::chown(file.path(), Some(65_534), None)?;
    let output = tfo.run(&["run", "-c", file.path()])?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure_says(&output.stderr, &["user 65534 owns it", "chown 0"])?;
    Ok(())
}
