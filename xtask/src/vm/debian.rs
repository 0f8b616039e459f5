//! Kernels of Debian's packages, unpacked and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    command::{output, succeed},
    packages::Packages,
};

/// The default series: Debian 12's kernel and its backport, which for arm64 there is with pages of 16 KiB, too.
pub(super) const fn series(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::Amd64 => &["6.1", "6.12"],
        Architecture::Arm64 => &["6.1", "6.12", "6.12-16k"],
    }
}

/// The series of these names; [`series`] where none is named.
pub(super) fn chosen(architecture: Architecture, named: &[String]) -> Vec<&str> {
    match named {
        [] => series(architecture).into(),
        named => named.iter().map(String::as_str).collect(),
    }
}

/// The newest of the default series, which has all features.
pub(super) const NEWEST: &str = "6.12";

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// The output of `uname -r`.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The folder with `lib/modules`.
    pub(super) root: PathBuf,
}

impl Kernel {
    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The folder of its series.
    pub(super) fn folder(&self) -> Result<&Path> {
        self.root.parent().context("the kernel has no folder")
    }
}

/// The newest kernel of a series in the package lists, unpacked below `folder` unless it is there already. A flavour
/// may follow the series, as in `6.12-16k`.
pub(super) fn kernel(
    packages: &Packages,
    architecture: Architecture,
    series: &str,
    folder: &Path,
) -> Result<Kernel> {
    let package = package(packages, architecture, series)?;
    let root = folder.join(&package);
    if !root.join("lib/modules").exists() {
        unpack(packages, &package, folder, &root)?;
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

/// The newest package of a series and flavour.
fn package(packages: &Packages, architecture: Architecture, series: &str) -> Result<String> {
    let (number, flavour) = series.split_once('-').unwrap_or((series, ""));
    let mut search = packages.apt("apt-cache");
    search.args([
        "search",
        "--names-only",
        &format!("^linux-image-{}[.]", number.replace('.', "[.]")),
    ]);
    let found = output(&mut search).unwrap_or_default();
    let names = found.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| is_kernel(name, architecture.debian(), flavour))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned)
        .with_context(|| {
            format!("Debian's package lists have no kernel {series}: try `apt-get update`, or another series")
        })
}

/// `true` for the kernels of an architecture and flavour, which is empty for the ordinary one.
fn is_kernel(package: &str, architecture: &str, flavour: &str) -> bool {
    let ending = format!("-{architecture}-{flavour}");
    package
        .strip_suffix(ending.trim_end_matches('-'))
        .is_some_and(|rest| !["-cloud", "-rt"].iter().any(|part| rest.ends_with(part)))
}

/// The numbers in a package's name, to sort versions by.
fn numbers(package: &str) -> Vec<u32> {
    package
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpack(packages: &Packages, package: &str, folder: &Path, root: &Path) -> Result<()> {
    println!("tfo: vm: getting {package}");
    // Renamed when complete, so that an interrupted run leaves no half of a kernel.
    let fresh = folder.join("fresh");
    let archive = packages.download(package, &fresh)?;
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
    fn the_newest_kernel_of_a_flavour_is_taken() {
        let mut names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-50-amd64"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[1], "linux-image-6.1.0-50-amd64");
        assert!(is_kernel("linux-image-6.12.117+deb12-amd64", "amd64", ""));
        for other in [
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-amd64-dbg",
            "linux-image-6.1.0-50-amd64-unsigned",
        ] {
            assert!(!is_kernel(other, "amd64", ""));
        }
        let large = "linux-image-6.12.117+deb12-arm64-16k";
        assert!(is_kernel(large, "arm64", "16k"));
        assert!(!is_kernel(large, "arm64", ""));
    }
}
