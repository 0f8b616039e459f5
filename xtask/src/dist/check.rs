//! Checks of what was made: lintian, rpmlint, the unit's exposure, both packages in a clean system, the archive in a root of
//! its own, the image under podman. `tfo demo` runs in each.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    architecture::Architecture,
    command::{as_root, output, repository, succeed},
    setup, vm,
};

use super::times;

const TOOLS: [(&str, &str); 5] = [
    ("bpftool", "bpftool"),
    ("debootstrap", "debootstrap"),
    ("ip", "iproute2"),
    ("lintian", "lintian"),
    ("systemd-analyze", "systemd"),
];

/// The Debian release that the package is installed in.
const SUITE: &str = "bookworm";

/// Time limit of a guest, for the checks of a package.
const IN_GUEST: Duration = Duration::from_secs(15 * 60);

/// The highest exposure in tenths that `systemd-analyze security` may give the unit. The unit needs root and
/// `CAP_NET_ADMIN` (0.6), the host's network (0.8), `/proc/sys` (0.2) and bpf(2) (0.3).
const EXPOSURE: u32 = 25;

/// Runs all checks of the Debian package. `folder` keeps the clean system, whose archive is returned.
pub(super) fn check(package: &Path, folder: &Path) -> Result<PathBuf> {
    setup::programs(&TOOLS)?;
    lint(package)?;
    let unit = repository().join("dist/tfo.service");
    exposure(&unit)?;
    let base = clean_system(folder)?;
    script("check.sh", "the package", package, folder, &[&base, &unit])?;
    Ok(base)
}

fn lint(package: &Path) -> Result<()> {
    succeed(
        Command::new("lintian")
            .args(["--fail-on", "error,warning", "--allow-root"])
            // Only packages in Debian's archive must close a bug.
            .args(["--suppress-tags", "initial-upload-closes-no-bugs"])
            .arg(package),
    )?;
    println!("tfo: lintian found no error and no warning");
    Ok(())
}

/// Checks a Debian package of another architecture, with lintian here, and in a guest, as [`check`] does on this machine; and
/// the archive, if there is one.
pub(super) fn guest(
    architecture: Architecture,
    package: &Path,
    archive: Option<&Path>,
    folder: &Path,
) -> Result<()> {
    setup::programs(&[("lintian", "lintian"), ("tar", "tar")])?;
    lint(package)?;
    let base = vm::clean_system(architecture, &folder.join("system.tar"))?;
    let scripts = repository().join("xtask/src/dist").display().to_string();
    let unit = repository().join("dist/tfo.service");
    let place = format!("{} {}", folder.display(), times::file(folder).display());
    let [package, base, unit] = [package, &base, &unit].map(Path::display);
    let mut commands = vec![format!(
        "{scripts}/check.sh {package} {place} {base} {unit}"
    )];
    if let Some(archive) = archive.map(Path::display) {
        commands.push(format!("{scripts}/check-archive.sh {archive} {place}"));
    }
    vm::commands(architecture, &commands, IN_GUEST)?;
    println!("tfo: what was made was installed, ran and went again, in a guest");
    Ok(())
}

/// The static program needs no loader, and so no library.
pub(super) fn static_program(program: &Path) -> Result<()> {
    let headers = output(
        Command::new("readelf")
            .arg("--program-headers")
            .arg(program),
    );
    let headers = headers.context("readelf cannot read the static program")?;
    ensure!(
        headers.contains(" LOAD ") && !headers.contains(" INTERP "),
        "{} asks for a loader: it is not static",
        program.display()
    );
    Ok(())
}

/// Checks the .rpm with rpmlint and in the clean system of `base`.
pub(super) fn rpm(package: &Path, folder: &Path, base: &Path) -> Result<()> {
    lint_rpm(package)?;
    script("check-rpm.sh", "the .rpm", package, folder, &[base])
}

/// Checks the .rpm with rpmlint, and that it asks for no library.
pub(super) fn lint_rpm(package: &Path) -> Result<()> {
    setup::programs(&[("rpmlint", "rpmlint")])?;
    let wanted = super::rpm::requirements(package)?;
    ensure!(wanted == ["/bin/sh"], "the .rpm asks for {wanted:?}");
    let mut lint = Command::new("rpmlint");
    lint.args(["--strict", "--ignore-unused-rpmlintrc", "--rpmlintrc"])
        .arg(repository().join("dist/rpm/rpmlintrc"));
    succeed(lint.arg(package).stdout(Stdio::null())).context("`rpmlint` says what is wrong")?;
    println!("tfo: rpmlint found no error and no warning");
    Ok(())
}

/// Runs the program of the archive where there is nothing else.
pub(super) fn archive(archive: &Path, folder: &Path) -> Result<()> {
    script("check-archive.sh", "the archive", archive, folder, &[])
}

/// Runs the image under podman.
pub(super) fn image(image: &Path, folder: &Path) -> Result<()> {
    setup::programs(&[("podman", "podman"), ("crun", "crun")])?;
    let compose = repository().join("deploy/compose");
    script("check-image.sh", "the image", image, folder, &[&compose])
}

/// Runs a script beside this file as root, with the artefact, the folder and the file of times before its arguments.
/// Mounts, processes and the network have namespaces of their own, which end with it.
fn script(
    name: &str,
    what: &str,
    artefact: &Path,
    folder: &Path,
    arguments: &[&Path],
) -> Result<()> {
    let start = Instant::now();
    let mut check = as_root("unshare")?;
    check.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--"]);
    check.arg(repository().join("xtask/src/dist").join(name));
    check.args([artefact, folder, &times::file(folder)]);
    succeed(check.args(arguments))?;
    println!(
        "tfo: {what} was installed, ran and went again, in {:.0} s",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

/// The archive of a clean system, in `folder`. The first call makes it with debootstrap, in some minutes.
fn clean_system(folder: &Path) -> Result<PathBuf> {
    let archive = folder.join(format!("{SUITE}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    println!("tfo: dist: debootstrap {SUITE}, the first time");
    let root = folder.join("fresh");
    let mut remove = as_root("rm")?;
    succeed(remove.arg("-rf").arg(&root))?;
    // Its mounts end with the namespace.
    let mut make = as_root("unshare")?;
    make.args(["--mount", "--pid", "--fork", "--kill-child", "--"]);
    make.args(["debootstrap", "--variant=minbase", SUITE]);
    succeed(make.arg(&root).stdout(Stdio::null()))?;
    let part = archive.with_extension("part");
    let mut pack = as_root("tar")?;
    succeed(pack.arg("-C").arg(&root).arg("-cf").arg(&part).arg("."))?;
    let mut rename = as_root("mv")?;
    succeed(rename.args([&part, &archive]))?;
    let mut remove = as_root("rm")?;
    succeed(remove.arg("-rf").arg(&root))?;
    Ok(archive)
}

fn exposure(unit: &Path) -> Result<()> {
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .args(["security", "--offline=true", "--no-pager"])
        .arg(unit);
    let said = output(analyze.env("LC_ALL", "C")).context("systemd-analyze security failed")?;
    let Some(figure) = figure(&said) else {
        bail!("systemd-analyze security printed no exposure level: {said}");
    };
    let tenths = |figure: u32| format!("{}.{}", figure / 10, figure % 10);
    ensure!(
        figure <= EXPOSURE,
        "the unit's exposure is {}, more than {}: `systemd-analyze security --offline=true dist/tfo.service` shows why",
        tenths(figure),
        tenths(EXPOSURE)
    );
    println!(
        "tfo: the unit's exposure is {}, at most {}",
        tenths(figure),
        tenths(EXPOSURE)
    );
    Ok(())
}

/// The overall exposure level, in tenths.
fn figure(said: &str) -> Option<u32> {
    let line = said
        .lines()
        .find(|line| line.contains("Overall exposure level"))?;
    let figure = line.split(": ").nth(1)?.split(' ').next()?;
    let (whole, tenth) = figure.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_read_from_the_last_line() {
        let said = "✗ User=   0.4\n\n→ Overall exposure level for tfo.service: 2.3 OK 🙂\n";
        assert_eq!(figure(said), Some(23));
        assert_eq!(figure("✗ User=   0.4\n"), None);
    }
}
