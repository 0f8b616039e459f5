//! Packs a tree of files with rpmbuild, as `dist/rpm/tfo.spec` says. The program is the static one, so that a
//! distribution with an older C library than this machine's runs it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::command::{output, succeed};

use super::{
    archive::lay_out,
    origin::{VERSION, date, epoch, maintainer},
    tree,
};

const SPEC: &str = include_str!("../../../dist/rpm/tfo.spec");
/// Folders of Debian that RPM distributions have elsewhere.
const MOVED: [(&str, &str); 2] = [
    ("lib/systemd", "usr/lib/systemd"),
    (
        "usr/share/zsh/vendor-completions",
        "usr/share/zsh/site-functions",
    ),
];

/// Lays out the files below `folder` and packs them into `folder`.
pub(super) fn make(
    folder: &Path,
    binary: &Path,
    manpages: &Path,
    architecture: &str,
) -> Result<PathBuf> {
    let tree = folder.join("rpm/tree");
    lay_out(&tree, binary, manpages, "usr/share/licenses/tfo")?;
    for (from, to) in MOVED {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&tree))?;
        fs::rename(tree.join(from), to)?;
    }
    fs::remove_dir(tree.join("lib"))?;
    tree::set_modes(&tree)?;

    let top = folder.join("rpm/build");
    if top.exists() {
        fs::remove_dir_all(&top)?;
    }
    fs::create_dir_all(&top)?;
    let spec = top.join("tfo.spec");
    fs::write(&spec, text(&tree)?)?;
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--quiet", "--target", architecture, "--define"]);
    build.arg(format!("_topdir {}", top.display()));
    // Debian's rpm has no architecture of its own choice in its path of dependencies.
    build.args([
        "--define",
        "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
    ]);
    build.arg(&spec).env("SOURCE_DATE_EPOCH", epoch()?);
    succeed(build.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let name = format!("tfo-{VERSION}-1.{architecture}.rpm");
    let package = folder.join(&name);
    fs::rename(top.join("RPMS").join(&name), &package)
        .with_context(|| format!("rpmbuild made no {name}"))?;
    Ok(package)
}

/// The spec file for the files of a tree.
fn text(tree: &Path) -> Result<String> {
    let mut files = String::new();
    let mut folders = BTreeSet::new();
    for path in tree::files(tree)? {
        let path = path.strip_prefix(tree)?;
        let name = format!("/{}", path.display());
        folders.extend(path.ancestors().skip(1).filter_map(own));
        files += &format!("{}%attr({}, root, root) {name}\n", kind(&name), mode(&name));
    }
    for folder in folders {
        files += &format!("%dir %attr(0755, root, root) {folder}\n");
    }
    Ok(SPEC
        .replace("@VERSION@", VERSION)
        .replace("@TREE@", &tree.display().to_string())
        .replace("@FILES@", files.trim_end())
        .replace("@DATE@", &date("+%a %b %d %Y")?)
        .replace("@MAINTAINER@", maintainer()?))
}

/// A folder that goes with the package: one of its own, or one that other packages have as well, but not every system.
fn own(folder: &Path) -> Option<String> {
    const FOLDERS: [&str; 7] = [
        "etc/tfo",
        "usr/share/bash-completion",
        "usr/share/doc/tfo",
        "usr/share/fish",
        "usr/share/licenses/tfo",
        "usr/share/tfo",
        "usr/share/zsh",
    ];
    FOLDERS
        .iter()
        .any(|top| folder.starts_with(top))
        .then(|| format!("/{}", folder.display()))
}

/// Returns rpm's directive for a file.
fn kind(name: &str) -> &'static str {
    let starts = |folder| name.starts_with(folder);
    if starts("/etc/") {
        "%config(noreplace) "
    } else if starts("/usr/share/licenses/") {
        "%license "
    } else if starts("/usr/share/doc/") || starts("/usr/share/man/") {
        "%doc "
    } else {
        ""
    }
}

fn mode(name: &str) -> &'static str {
    if name == "/usr/bin/tfo" {
        "0755"
    } else {
        "0644"
    }
}

/// Returns the package's requirements, by rpm; the static program needs nothing but the shell of
/// the scripts.
pub(super) fn requirements(package: &Path) -> Result<Vec<String>> {
    let mut query = Command::new("rpm");
    query
        .args(["--query", "--package", "--requires"])
        .arg(package);
    let said = output(&mut query).context("rpm cannot read the package")?;
    let names = said.lines().filter(|line| !line.starts_with("rpmlib("));
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use crate::command::repository;

    use super::*;

    #[test]
    fn a_file_is_of_the_kind_of_its_folder() {
        assert_eq!(kind("/etc/tfo/tfo.toml"), "%config(noreplace) ");
        assert_eq!(kind("/usr/share/man/man8/tfo.8.gz"), "%doc ");
        assert_eq!(kind("/usr/share/licenses/tfo/LICENSE-MIT"), "%license ");
        assert_eq!(kind("/usr/lib/systemd/system/tfo.service"), "");
        assert_eq!(mode("/usr/bin/tfo"), "0755");
    }

    #[test]
    fn folders_go_with_the_package() {
        let own = |folder| own(Path::new(folder));
        assert_eq!(own("etc/tfo").as_deref(), Some("/etc/tfo"));
        assert_eq!(
            own("usr/share/doc/tfo/docs").as_deref(),
            Some("/usr/share/doc/tfo/docs")
        );
        assert_eq!(own("usr/share/doc"), None);
        assert_eq!(own("usr/share/man/man8"), None);
    }

    #[test]
    fn both_packages_detach_as_they_go() {
        let debian = fs::read_to_string(repository().join("dist/debian/prerm")).unwrap();
        // Up to what to do where a command fails.
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().map(str::trim);
            let detach =
                lines.filter(|line| line.starts_with("tfo detach") || line.starts_with("rm "));
            detach
                .map(|line| line.split(" ||").next().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(lines(SPEC), lines(&debian));
        assert_eq!(lines(SPEC).len(), 3);
    }
}
