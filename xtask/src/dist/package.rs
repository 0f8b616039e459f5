//! A package of a tree of files, by `dpkg-shlibdeps` and `dpkg-deb`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::command::{output, repository, succeed};

use super::{epoch, tree};

/// The project's version, and the first revision of its package.
pub(super) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Adds the control files to `tree`, and packs it all into `place`.
pub(super) fn make(tree: &Path, place: &Path) -> Result<PathBuf> {
    let mut architecture = Command::new("dpkg");
    let architecture = output(architecture.arg("--print-architecture"))
        .context("dpkg does not tell this machine's architecture")?;
    control(tree, place, &architecture)?;
    let package = place.join(format!("tfo_{VERSION}_{architecture}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-Zxz", "--build"]);
    succeed(
        pack.arg(tree)
            .arg(&package)
            .env("SOURCE_DATE_EPOCH", epoch()?)
            .stdout(std::process::Stdio::null()),
    )?;
    Ok(package)
}

fn control(tree: &Path, place: &Path, architecture: &str) -> Result<()> {
    let files = tree::files(tree)?;
    let mut bytes = 0;
    let mut sums = String::new();
    let mut configuration = String::new();
    for path in &files {
        bytes += fs::metadata(path)?.len();
        let name = path.strip_prefix(tree)?.display();
        let sum = output(Command::new("md5sum").arg(path)).context("md5sum failed")?;
        let sum = sum.split(' ').next().unwrap_or_default();
        sums += &format!("{sum}  {name}\n");
        if path.starts_with(tree.join("etc")) {
            configuration += &format!("/{name}\n");
        }
    }
    let folder = tree.join("DEBIAN");
    fs::create_dir_all(&folder)?;
    let depends = depends(&tree.join("usr/bin/tfo"), place)?;
    let text = fs::read_to_string(repository().join("dist/debian/control"))?
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &bytes.div_ceil(1024).to_string())
        .replace("@DEPENDS@", &depends);
    for (name, text) in [
        ("control", text),
        ("md5sums", sums),
        ("conffiles", configuration),
    ] {
        if !text.is_empty() {
            write(&folder.join(name), &text, 0o644)?;
        }
    }
    for name in SCRIPTS {
        let text = fs::read_to_string(repository().join("dist/debian").join(name))?;
        write(&folder.join(name), &text, 0o755)?;
    }
    Ok(())
}

/// The packages that have the libraries of a program.
fn depends(program: &Path, place: &Path) -> Result<String> {
    // It wants a source package around it.
    let source = place.join("shlibdeps/debian");
    fs::create_dir_all(&source)?;
    fs::write(
        source.join("control"),
        "Source: tfo\n\nPackage: tfo\nArchitecture: any\n",
    )?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps
        .arg("-O")
        .arg(program)
        .current_dir(place.join("shlibdeps"));
    let said = output(&mut shlibdeps).context("dpkg-shlibdeps failed")?;
    let depends = said.strip_prefix("shlibs:Depends=");
    depends
        .map(str::to_owned)
        .with_context(|| format!("dpkg-shlibdeps said {said:?}"))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}
