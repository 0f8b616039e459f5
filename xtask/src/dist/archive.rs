//! Artefacts without a package manager: an archive with the static program, the chart's archive,
//! checksums.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    command::{output, repository, succeed},
};

use super::{
    origin::{VERSION, epoch},
    tree,
};

/// The chart, in the repository.
pub(crate) const CHART: &str = "deploy/kubernetes/tfo";

const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// `tfo-VERSION-ARCHITECTURE-linux.tar.gz`: the files as the packages have them, below one folder.
pub(super) fn make(
    folder: &Path,
    binary: &Path,
    manpages: &Path,
    architecture: &str,
) -> Result<PathBuf> {
    let name = format!("tfo-{VERSION}-{architecture}-linux");
    let top = folder.join("archive");
    let tree = top.join(&name);
    lay_out(&tree, binary, manpages, "usr/share/doc/tfo")?;
    tree::set_modes(&tree)?;
    let archive = folder.join(format!("{name}.tar.gz"));
    pack(&top, &name, &archive)?;
    Ok(archive)
}

/// As [`tree::lay_out`], with the changelog, and the licences in the folder `licences`, instead of Debian's files.
pub(super) fn lay_out(tree: &Path, binary: &Path, manpages: &Path, licences: &str) -> Result<()> {
    tree::lay_out(tree, binary, manpages)?;
    let doc = tree.join("usr/share/doc/tfo");
    for debian in ["copyright", "changelog.gz", "changelog.Debian.gz"] {
        fs::remove_file(doc.join(debian))?;
    }
    documents(&doc, &tree.join(licences))
}

/// Copies the changelog into `doc` and the licences into `licences`.
pub(super) fn documents(doc: &Path, licences: &Path) -> Result<()> {
    fs::create_dir_all(licences)?;
    for licence in LICENCES {
        fs::copy(repository().join(licence), licences.join(licence))?;
    }
    fs::copy(repository().join("CHANGELOG.md"), doc.join("CHANGELOG.md"))?;
    Ok(())
}

/// The chart, with the rules and the dashboard of `dist/` in it: `tfo-VERSION-chart.tgz`.
///
/// # Errors
///
/// A tool fails.
pub(crate) fn chart(folder: &Path) -> Result<PathBuf> {
    let archive = folder.join(format!("tfo-{VERSION}-chart.tgz"));
    let parent = repository().join(CHART);
    let parent = parent.parent().context("the chart has no folder above")?;
    pack(parent, "tfo", &archive)?;
    Ok(archive)
}

/// Packs `name` in `folder`: the same files give the same bytes. Symbolic links become the files that they name.
fn pack(folder: &Path, name: &str, archive: &Path) -> Result<()> {
    let plain = archive.with_extension("tar");
    tar(folder, &[name], &plain)?;
    let packed = fs::File::create(archive)?;
    let mut gzip = Command::new("gzip");
    gzip.args(["--best", "--no-name", "--stdout"]).arg(&plain);
    succeed(gzip.stdout(Stdio::from(packed)))?;
    Ok(fs::remove_file(plain)?)
}

/// A tar file of `names` in `folder`, owned by root, with the commit's time.
pub(super) fn tar(folder: &Path, names: &[&str], archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder).arg("-cf").arg(archive);
    tar.args(["--format=gnu", "--sort=name", "--dereference"]);
    // Hard links would depend on the file system.
    tar.args([
        "--hard-dereference",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", epoch()?)]);
    succeed(tar.arg("--").args(names))
}

/// `SHA256SUMS` of files that are in `folder`, for `sha256sum --check`; with the name of a foreign architecture behind it.
pub(super) fn sums(
    folder: &Path,
    files: &[PathBuf],
    foreign: Option<Architecture>,
) -> Result<PathBuf> {
    let mut lines: Vec<_> = files
        .iter()
        .map(|file| {
            let name = file.file_name().context("a file has no name")?;
            Ok(format!("{}  {}\n", sha256(file)?, name.display()))
        })
        .collect::<Result<_>>()?;
    lines.sort_by_key(|line| line.split("  ").nth(1).map(str::to_owned));
    let suffix = foreign.map_or(String::new(), |it| format!("-{}", it.name()));
    let sums = folder.join(format!("SHA256SUMS{suffix}"));
    fs::write(&sums, lines.concat())?;
    Ok(sums)
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(file: &Path) -> Result<String> {
    let said = output(Command::new("sha256sum").arg(file));
    let said = said.with_context(|| format!("sha256sum cannot read {}", file.display()))?;
    // A backslash marks a name with special characters.
    let sum = said.trim_start_matches('\\').split(' ').next();
    Ok(sum.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// An empty folder below the target folder.
    fn place(name: &str) -> PathBuf {
        let place = repository().join("target/xtask-tests").join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        place
    }

    #[test]
    fn packing_again_gives_the_same_bytes() {
        let place = place("pack");
        let pack_anew = |mode| {
            let _ = fs::remove_dir_all(place.join("a"));
            fs::create_dir_all(place.join("a")).unwrap();
            for name in ["one", "two"] {
                let file = place.join("a").join(name);
                fs::write(&file, name).unwrap();
                fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            }
            symlink("one", place.join("a/link")).unwrap();
            pack(&place, "a", &place.join("a.tgz")).unwrap();
            fs::read(place.join("a.tgz")).unwrap()
        };
        assert_eq!(pack_anew(0o600), pack_anew(0o644));
        // The link's content is there, not the link.
        let mut list = Command::new("tar");
        list.arg("-tvzf").arg(place.join("a.tgz"));
        let list = output(&mut list).unwrap();
        assert!(list.contains("a/link") && !list.contains("->"), "{list}");
    }

    #[test]
    fn the_changelog_tells_of_this_version() {
        let text = fs::read_to_string(repository().join("CHANGELOG.md")).unwrap();
        let heading = format!("\n## {VERSION} - 2");
        assert!(text.contains(&heading), "{heading:?}");
    }

    #[test]
    fn sums_are_what_sha256sum_checks() {
        let place = place("sums");
        let files = ["b", "a"].map(|name| place.join(name));
        for file in &files {
            fs::write(file, "x").unwrap();
        }
        sums(&place, &files, None).unwrap();
        let check = || {
            let mut check = Command::new("sha256sum");
            check.args(["--check", "--strict", "SHA256SUMS"]);
            output(check.current_dir(&place).stderr(Stdio::null()))
        };
        assert_eq!(check().as_deref(), Some("a: OK\nb: OK"));
        fs::write(&files[0], "y").unwrap();
        assert_eq!(check(), None);
    }
}
