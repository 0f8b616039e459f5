//! The package's files, laid out as they are installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::command::{repository, succeed};

use super::origin::{PACKAGE_VERSION, date, maintainer};

const COPYRIGHT: &str = include_str!("../../../dist/debian/copyright");

/// Files copied unchanged, as repository path and installed path.
const FILES: [(&str, &str); 5] = [
    ("dist/tfo.service", "lib/systemd/system/tfo.service"),
    ("dist/tfo.toml", "etc/tfo/tfo.toml"),
    ("dist/grafana/tfo.json", "usr/share/tfo/grafana/tfo.json"),
    (
        "dist/prometheus/tfo.rules.yml",
        "usr/share/tfo/prometheus/tfo.rules.yml",
    ),
    ("deploy/compose/seccomp.json", "usr/share/tfo/seccomp.json"),
];

/// Pages and pictures of `docs/` in the package: those that its files point to, and those that these link to.
const DOCS: [&str; 21] = [
    "README.md",
    "cookies.md",
    "counters.md",
    "edge.md",
    "enable.md",
    "faq.md",
    "farm.md",
    "guard.md",
    "guide.md",
    "images/role-edge.svg",
    "images/role-farm.svg",
    "images/role-host.svg",
    "install.md",
    "metrics.md",
    "once.md",
    "operations.md",
    "pods.md",
    "policy.md",
    "probe.md",
    "reference.md",
    "withhold.md",
];

/// Lays out all files but the control files in `tree`, which is emptied first.
pub(super) fn lay_out(tree: &Path, binary: &Path, manpages: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    copy(binary, &tree.join("usr/bin/tfo"))?;
    for (from, to) in FILES {
        copy(&repository().join(from), &tree.join(to))?;
    }
    let share = tree.join("usr/share");
    succeed(Command::new(manpages).arg(&share))?;
    documents(&share.join("doc/tfo"))?;
    for page in DOCS {
        let to = share.join("doc/tfo/docs").join(page);
        copy(&repository().join("docs").join(page), &to)?;
    }
    for page in files(&share.join("man"))? {
        compress(&page)?;
    }
    set_modes(tree)
}

/// Sets the modes of all files, which then do not depend on the umask.
pub(super) fn set_modes(tree: &Path) -> Result<()> {
    for path in files(tree)? {
        let mode = if path.ends_with("usr/bin/tfo") {
            0o755
        } else {
            0o644
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        for folder in path
            .ancestors()
            .skip(1)
            .take_while(|each| each.starts_with(tree))
        {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// The licence and both changelogs, the project's and Debian's.
fn documents(doc: &Path) -> Result<()> {
    fs::create_dir_all(doc)?;
    let mit = fs::read_to_string(repository().join("LICENSE-MIT"))?;
    // The copyright format 1.0 indents the text and has a dot for an empty line.
    let (_, terms) = mit
        .split_once("\n\nPermission")
        .context("LICENSE-MIT has no paragraph that starts with Permission")?;
    let terms: Vec<_> = format!("Permission{terms}")
        .lines()
        .map(|line| format!(" {}", if line.is_empty() { "." } else { line }))
        .collect();
    fs::write(
        doc.join("copyright"),
        COPYRIGHT.replace("@MIT@", &terms.join("\n")),
    )?;
    let changelog = doc.join("changelog");
    fs::copy(repository().join("CHANGELOG.md"), &changelog)?;
    compress(&changelog)?;

    let maintainer = maintainer()?;
    let date = date("--rfc-email")?;
    let debian = doc.join("changelog.Debian");
    let text = format!(
        "tfo ({PACKAGE_VERSION}) unstable; urgency=medium\n\n  * What is new is in changelog.gz.\n\n -- {maintainer}  {date}\n"
    );
    fs::write(&debian, text)?;
    compress(&debian)
}

/// Replaces the file by `.gz`, without name and time inside.
fn compress(path: &Path) -> Result<()> {
    succeed(Command::new("gzip").args(["--best", "--no-name"]).arg(path))
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// All files below a folder, sorted by path.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_the_files_point_to_are_in_the_package() {
        for (file, _) in FILES {
            let text = fs::read_to_string(repository().join(file)).unwrap();
            let pages = text.split("docs/").skip(1);
            for page in pages.filter(|page| page.starts_with(char::is_alphabetic)) {
                let end = page.find(".md").map_or(0, |end| end + ".md".len());
                assert!(
                    DOCS.contains(&&page[..end]),
                    "{file}: docs/{}",
                    &page[..end]
                );
            }
        }
    }
}
