//! Kernels of Debian's packages, unpacked and not installed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::Kernel;
use crate::command::{output, succeed};

/// The newest kernel of a series in the package lists, unpacked below `folder` unless it is there already.
pub(super) fn kernel(series: &str, folder: &Path) -> Result<Kernel> {
    let package = package(series)?;
    let root = folder.join(&package);
    if !root.join("lib/modules").exists() {
        unpack(&package, folder, &root)?;
    }
    let modules = root.join("lib/modules");
    let release = fs::read_dir(&modules)?
        .next()
        .context("the package has no modules")??
        .file_name();
    let release = release.display().to_string();
    Ok(Kernel {
        image: root.join("boot").join(format!("vmlinuz-{release}")),
        root,
        release,
    })
}

/// The newest package of a series, without the cloud and real-time flavours.
fn package(series: &str) -> Result<String> {
    let mut search = Command::new("apt-cache");
    search.args([
        "search",
        "--names-only",
        &format!("^linux-image-{}[.]", series.replace('.', "[.]")),
    ]);
    let found = output(&mut search).unwrap_or_default();
    let names = found.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| is_ordinary(name))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
        .with_context(|| {
            format!("Debian's package lists have no kernel {series}: try `apt-get update`, or another series")
        })
}

fn is_ordinary(package: &str) -> bool {
    package.ends_with("-amd64")
        && !["-cloud-", "-rt-"]
            .iter()
            .any(|part| package.contains(part))
}

/// The numbers in a package's name, to sort versions by.
fn numbers(package: &str) -> Vec<u32> {
    package
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpack(package: &str, folder: &Path, root: &Path) -> Result<()> {
    println!("tfo: vm: getting {package}");
    // Renamed when complete, so that an interrupted run leaves no half of a kernel.
    let fresh = folder.join("fresh");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    succeed(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(&fresh),
    )?;
    let archive = fs::read_dir(&fresh)?
        .next()
        .context("apt-get downloaded no package")??
        .path();
    let unpacked = fresh.join("root");
    succeed(
        Command::new("dpkg-deb")
            .arg("-x")
            .args([&archive, &unpacked]),
    )?;
    let release = fs::read_dir(unpacked.join("lib/modules"))?
        .next()
        .context("the package has no modules")??
        .file_name();
    succeed(
        Command::new("/usr/sbin/depmod")
            .arg("-b")
            .arg(&unpacked)
            .arg(&release),
    )?;
    fs::rename(&unpacked, root)?;
    Ok(fs::remove_dir_all(&fresh)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ordinary_kernel_is_taken() {
        let mut names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-50-amd64"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[1], "linux-image-6.1.0-50-amd64");
        assert!(is_ordinary("linux-image-6.12.117+deb12-amd64"));
        for other in [
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-amd64-dbg",
        ] {
            assert!(!is_ordinary(other));
        }
    }
}
