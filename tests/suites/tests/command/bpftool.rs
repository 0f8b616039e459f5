//! The object is not for our own loader alone: bpftool takes it, too, and shows its source.

use std::{env, fs, process::Command};

use anyhow::{Result, ensure};
use tfo_common::abi::{KEYS, LISTENERS_PROGRAM, OF_INTERFACE, XDP_PROGRAM};
use tfo_testbed::{process, tfo::LIMIT};
use tfo_userspace::datapath::OBJECT;

/// Loads the object, shows the program with its source lines, and its maps. What is pinned on the way
/// goes with the mount namespace.
const SCRIPT: &str = "
    mount -t bpf bpf /sys/fs/bpf
    mkdir /sys/fs/bpf/programs
    bpftool prog loadall \"$0\" /sys/fs/bpf/programs pinmaps /sys/fs/bpf
    bpftool prog dump xlated pinned /sys/fs/bpf/programs/tfo_xdp linum
    ls /sys/fs/bpf /sys/fs/bpf/programs
";

#[test]
fn bpftool_loads_the_object_and_shows_its_source() -> Result<()> {
    let path = env::temp_dir().join(format!("tfo-t{}.o", std::process::id()));
    fs::write(&path, OBJECT)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", SCRIPT]).arg(&path);
    let shown = process::succeed(&mut command, LIMIT);
    fs::remove_file(&path)?;
    let shown = shown?;
    let parts = [KEYS, XDP_PROGRAM, LISTENERS_PROGRAM];
    for part in parts.iter().chain(&OF_INTERFACE).chain(&[
        // Lines of the program's own and of what the host runs, too, with their places.
        "tfo-ebpf/src/frame.rs",
        "tfo-common/src/wire/options.rs",
        "tfo-common/src/counters.rs",
    ]) {
        ensure!(shown.contains(part), "no {part} in {shown}");
    }
    Ok(())
}
