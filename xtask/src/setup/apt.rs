//! Packages of Debian and its derivatives.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{as_root, output, succeed, which},
    step::progress,
};

/// apt-get. Its package lists are updated at most once, before the first use.
pub(super) struct Apt {
    refreshed: bool,
}

impl Apt {
    pub(super) const fn new() -> Self {
        Self { refreshed: false }
    }

    /// `true` if this system has apt-get.
    pub(super) fn present() -> bool {
        which("apt-get").is_some()
    }

    /// `true` if apt-get can install the package.
    pub(super) fn offers(&mut self, package: &str) -> Result<bool> {
        if !Self::present() {
            return Ok(false);
        }
        self.refresh()?;
        let policy = output(
            Command::new("apt-cache")
                .args(["policy", package])
                .env("LC_ALL", "C"),
        );
        Ok(policy.is_some_and(|policy| has_candidate(&policy)))
    }

    /// Installs packages in one run of apt-get.
    pub(super) fn install(&mut self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        let packages = packages.join(" ");
        if !Self::present() {
            bail!("this system has no apt-get: install the equivalents of Debian's {packages}");
        }
        self.refresh()?;
        progress(&format!("apt-get install {packages}"));
        let args = format!("install --yes --no-install-recommends {packages}");
        succeed(&mut apt_get(&args)?).with_context(|| format!("apt-get cannot install {packages}"))
    }

    /// Downloads a package and unpacks it below `folder`, without its dependencies. Installs and starts nothing.
    pub(super) fn unpack(&mut self, package: &str, folder: &Path) -> Result<()> {
        if !self.offers(package)? {
            bail!("this system has no package {package}: install the equivalent of Debian's");
        }
        progress(&format!("unpack {package} in {}", folder.display()));
        // Emptied first, so that it contains this package only.
        let download = folder.join("download");
        let _ = fs::remove_dir_all(&download);
        fs::create_dir_all(&download)?;
        succeed(
            Command::new("apt-get")
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(&download),
        )?;
        for file in fs::read_dir(&download)? {
            let file = file?.path();
            succeed(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder))?;
        }
        Ok(fs::remove_dir_all(&download)?)
    }

    fn refresh(&mut self) -> Result<()> {
        if !self.refreshed {
            progress("apt-get update");
            succeed(&mut apt_get("update")?)?;
            self.refreshed = true;
        }
        Ok(())
    }
}

/// apt-get as root, quiet and without questions. It waits up to 120 s for another apt-get.
fn apt_get(args: &str) -> Result<Command> {
    let mut command = as_root("apt-get")?;
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .arg("-qq")
        .args(["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"])
        .args(args.split(' '))
        .stdin(Stdio::null());
    Ok(command)
}

/// `true` if the output of `apt-cache policy` has an installable version.
fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .is_some_and(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_a_candidate_can_be_installed() {
        assert!(has_candidate(
            "curl:\n  Installed: (none)\n  Candidate: 7.88.1-10"
        ));
        assert!(!has_candidate(
            "curl:\n  Installed: (none)\n  Candidate: (none)"
        ));
        assert!(!has_candidate(""));
    }
}
