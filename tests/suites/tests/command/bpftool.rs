//! bpftool can load the object, and shows its source lines.

use std::{env, fs, process::Command};

use anyhow::{Result, ensure};
use tfo_common::abi::{KEYS, LISTENERS_PROGRAM, OF_INTERFACE, XDP_PROGRAM};
use tfo_testbed::{process, tfo::LIMIT};
use tfo_userspace::datapath::OBJECT;

/// Loads the object, then shows the program with its source lines, and its maps. Pins end with the mount namespace.
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
        // Source lines of the program and of the code that it shares with the host.
        "tfo-ebpf/src/packet/read.rs",
        "tfo-common/src/wire/options/mod.rs",
        "tfo-common/src/count.rs",
    ]) {
        ensure!(shown.contains(part), "no {part} in {shown}");
    }
    Ok(())
}
