//! Packs a tree of files with `dpkg-shlibdeps` and `dpkg-deb`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    command::{output, repository, succeed},
    packages::Packages,
};

use super::{
    origin::{PACKAGE_VERSION, epoch},
    tree,
};

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Adds the control files to `tree` and packs it into `folder`.
pub(super) fn make(tree: &Path, folder: &Path, foreign: Option<Architecture>) -> Result<PathBuf> {
    let name = if let Some(foreign) = foreign {
        foreign.debian().to_owned()
    } else {
        output(Command::new("dpkg").arg("--print-architecture"))
            .context("dpkg cannot print this machine's architecture")?
    };
    control(tree, folder, &name, foreign)?;
    let package = folder.join(format!("tfo_{PACKAGE_VERSION}_{name}.deb"));
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

fn control(
    tree: &Path,
    folder: &Path,
    architecture: &str,
    foreign: Option<Architecture>,
) -> Result<()> {
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
    let metadata = tree.join("DEBIAN");
    fs::create_dir_all(&metadata)?;
    let depends = depends(&tree.join("usr/bin/tfo"), folder, foreign)?;
    let text = fs::read_to_string(repository().join("dist/debian/control"))?
        .replace("@VERSION@", PACKAGE_VERSION)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &bytes.div_ceil(1024).to_string())
        .replace("@DEPENDS@", &depends);
    for (name, text) in [
        ("control", text),
        ("md5sums", sums),
        ("conffiles", configuration),
    ] {
        if !text.is_empty() {
            write(&metadata.join(name), &text, 0o644)?;
        }
    }
    for name in SCRIPTS {
        let text = fs::read_to_string(repository().join("dist/debian").join(name))?;
        write(&metadata.join(name), &text, 0o755)?;
    }
    Ok(())
}

/// The packages of the libraries that a Rust program loads.
const LIBRARIES: [&str; 2] = ["libc6", "libgcc-s1"];

/// The value of `Depends`: the packages of the libraries that a program loads, with the versions that it needs. Those of
/// a foreign architecture are unpacked for it.
fn depends(program: &Path, folder: &Path, foreign: Option<Architecture>) -> Result<String> {
    // dpkg-shlibdeps runs in a source package only.
    let source = folder.join("shlibdeps/debian");
    fs::create_dir_all(&source)?;
    fs::write(
        source.join("control"),
        "Source: tfo\n\nPackage: tfo\nArchitecture: any\n",
    )?;
    let mut shlibdeps = Command::new("dpkg-shlibdeps");
    shlibdeps
        .arg("-O")
        .arg(program)
        .current_dir(folder.join("shlibdeps"));
    if let Some(foreign) = foreign {
        shlibdeps.env("DEB_HOST_ARCH", foreign.debian());
        let packages = Packages::of(foreign)?;
        for name in LIBRARIES {
            let library = folder.join("libraries").join(name);
            let package = packages.download(name, &folder.join("download"))?;
            let _ = fs::remove_dir_all(&library);
            fs::create_dir_all(&library)?;
            // With its list of symbols.
            let mut unpack = Command::new("dpkg-deb");
            succeed(unpack.arg("-R").arg(package).arg(&library))?;
            shlibdeps.arg(format!("-S{}", library.display()));
        }
    }
    let said = output(&mut shlibdeps).context("dpkg-shlibdeps failed")?;
    let depends = said.strip_prefix("shlibs:Depends=");
    depends
        .map(str::to_owned)
        .with_context(|| format!("dpkg-shlibdeps printed no dependencies: {said:?}"))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}
