//! The initramfs of a guest, which mounts files of this machine.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::debian::Kernel;
use crate::command::{output, succeed};

/// The modules to mount it: bus, file system, transport and overlay.
const MODULES: [&str; 4] = ["virtio_pci", "9p", "9pnet_virtio", "overlay"];

const INIT: &str = include_str!("init.sh");

/// Makes the archive below `folder`.
pub(super) fn make(kernel: &Kernel, busybox: &Path, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("initramfs");
    let _ = fs::remove_dir_all(&root);
    for directory in ["bin", "dev", "memory", "modules", "proc", "root", "sys"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(busybox, root.join("bin/busybox"))?;
    // In load order: a module comes after those that it needs.
    let mut order = Vec::new();
    for module in MODULES {
        for path in files(kernel, module) {
            let file = path.file_name().unwrap_or_default().display().to_string();
            let plain = file.trim_end_matches(".xz").to_owned();
            if order.contains(&plain) {
                continue;
            }
            let into = root.join("modules").join(&plain);
            if file == plain {
                fs::copy(&path, into)?;
            } else {
                succeed(
                    Command::new("xz")
                        .args(["-dc"])
                        .arg(&path)
                        .stdout(File::create(into)?),
                )?;
            }
            order.push(plain);
        }
    }
    fs::write(root.join("modules/order"), order.join("\n") + "\n")?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("initramfs.cpio");
    let pack = "find . | cpio --quiet -o -H newc";
    succeed(
        Command::new("sh")
            .args(["-c", pack])
            .current_dir(&root)
            .stdout(File::create(&archive)?),
    )?;
    Ok(archive)
}

/// The files of a module's dependencies and of the module, in load order; empty if it is built into the kernel.
fn files(kernel: &Kernel, module: &str) -> Vec<PathBuf> {
    let mut command = Command::new("/usr/sbin/modprobe");
    command
        .arg("-d")
        .arg(&kernel.root)
        .args(["-S", &kernel.release, "--show-depends", module]);
    let listed = output(&mut command).unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|path| PathBuf::from(path.trim()))
        .collect()
}
