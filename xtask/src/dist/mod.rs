//! `cargo xtask dist`: what users install.
//!
//! [`tree`] lays out the files as they are installed, [`package`] packs them with Debian's tools, [`check`] installs,
//! runs and purges the package in a clean system. With `--all` there are, from a static program: [`rpm`], [`archive`]
//! and [`image`]; and the chart, a bill of materials ([`sbom`]) and checksums. The check has cargo install the [`crates`],
//! too, and notes [`times`]. All is reproducible: the same commit, toolchain and folder give the same bytes, which
//! [`again`] holds.

mod again;
mod archive;
mod check;
mod crates;
mod image;
mod origin;
mod package;
mod rpm;
mod sbom;
mod times;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

#[cfg(test)]
pub(crate) use self::archive::CHART;
pub(crate) use self::archive::chart;
use crate::{
    architecture::Architecture,
    build::{self, Profile},
    command::{succeed, target},
    setup,
};

/// Programs that make a package, and their Debian packages.
const TOOLS: [(&str, &str); 4] = [
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("gzip", "gzip"),
    ("strip", "binutils"),
];

/// The same of what `--all` makes in addition.
const ALL_TOOLS: [(&str, &str); 2] = [("rpmbuild", "rpm"), ("tar", "tar")];

/// The options of [`dist`].
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The architecture to build for; this machine's if `None`.
    pub architecture: Option<Architecture>,
    /// Everything, not the Debian package alone.
    pub all: bool,
    /// Check what was made, as root.
    pub check: bool,
}

/// Builds the release profile and makes `target/dist/tfo_VERSION_ARCHITECTURE.deb`, or with `all` everything that users
/// install; for another architecture in a folder of its own. With `check`, checks it with lintian, rpmlint, systemd, clean
/// systems and a container, as root; what is for another architecture in an emulated guest, but for the .rpm and the image.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or a check does.
pub fn dist(plan: Plan) -> Result<()> {
    setup::programs(&TOOLS)?;
    let foreign = plan.architecture.filter(|it| it.is_foreign());
    let mut folder = target()?.join("dist");
    if let Some(foreign) = foreign {
        folder.push(foreign.debian());
    }
    fs::create_dir_all(&folder)?;
    let manpages = build::example("tfo-userspace", "manpages")?;
    let built = build::tfo_for(foreign, Profile::Release)?;
    let dynamic = fs::read(&built)?;
    let binary = shipped(&built, foreign, folder.join("tfo"))?;
    let make = |name: &str| -> Result<PathBuf> {
        let tree = folder.join(name);
        tree::lay_out(&tree, &binary, &manpages)?;
        package::make(&tree, &folder, foreign)
    };
    let package = make("tree")?;
    said(&package)?;
    if plan.check {
        let bytes = fs::read(&package)?;
        again::same(&bytes, &make("again")?)?;
    }
    // After the package: both builds have one path in the target folder.
    let rest = if plan.all {
        Some(all(&folder, &package, &manpages, foreign, plan.check)?)
    } else {
        None
    };
    if !plan.check {
        return Ok(());
    }
    times::clear(&folder)?;
    if let Some(foreign) = foreign {
        if let Some(made) = &rest {
            check::lint_rpm(&made.packed.rpm)?;
        }
        let archive = rest.as_ref().map(|made| made.packed.archive.as_path());
        return check::guest(foreign, &package, archive, &folder);
    }
    let base = check::check(&package, &folder)?;
    if let Some(made) = rest {
        check_all(&made.packed, &package, &folder, &base)?;
        again::build(&dynamic, &made.built)?;
    }
    Ok(())
}

/// Checks what `--all` makes, and prints how long each artefact takes to the first answer.
fn check_all(made: &Packed, package: &Path, folder: &Path, base: &Path) -> Result<()> {
    check::rpm(&made.rpm, folder, base)?;
    check::archive(&made.archive, folder)?;
    check::image(&made.image, folder)?;
    let installed = crates::check(folder)?;
    let artefacts = [
        ("deb", package),
        ("rpm", &made.rpm),
        ("archive", &made.archive),
        ("image", &made.image),
        ("crates", &installed),
    ];
    print!("{}", times::table(folder, &artefacts)?);
    Ok(())
}

/// What `--all` makes.
struct Made {
    /// The static program as it was built.
    built: Vec<u8>,
    packed: Packed,
}

/// The artefacts with the static program, and those without.
struct Packed {
    rpm: PathBuf,
    archive: PathBuf,
    image: PathBuf,
    /// The chart and the bills of materials, which are not made for a foreign architecture.
    rest: Vec<PathBuf>,
}

impl Packed {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let programs = [&self.rpm, &self.archive, &self.image];
        programs.into_iter().chain(&self.rest)
    }
}

/// Makes all but the Debian package, and the checksums of all.
fn all(
    folder: &Path,
    package: &Path,
    manpages: &Path,
    foreign: Option<Architecture>,
    check: bool,
) -> Result<Made> {
    setup::programs(&ALL_TOOLS)?;
    let program = build::static_tfo(foreign)?;
    let built = fs::read(&program)?;
    let binary = shipped(&program, foreign, folder.join("tfo-static"))?;
    check::static_program(&binary)?;
    let architecture = Architecture::name_of(foreign);
    let pack = || -> Result<Packed> {
        Ok(Packed {
            rpm: rpm::make(folder, &binary, manpages, architecture)?,
            archive: archive::make(folder, &binary, manpages, architecture)?,
            image: image::make(folder, &binary, architecture)?,
            rest: if foreign.is_none() {
                let chart = archive::chart(folder)?;
                [chart].into_iter().chain(sbom::make(folder)?).collect()
            } else {
                Vec::new()
            },
        })
    };
    let packed = pack()?;
    if check {
        let files: Vec<_> = packed.files().collect();
        let bytes = files.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
        pack()?;
        for (file, bytes) in files.iter().zip(&bytes) {
            again::same(bytes, file)?;
        }
    }
    let files: Vec<_> = [package.to_owned()]
        .into_iter()
        .chain(packed.files().cloned())
        .collect();
    let sums = archive::sums(folder, &files, foreign)?;
    for file in files.iter().skip(1).chain([&sums]) {
        said(file)?;
    }
    Ok(Made { built, packed })
}

fn said(file: &Path) -> Result<()> {
    let size = fs::metadata(file)?.len();
    println!("tfo: made {}, {} KiB", file.display(), size.div_ceil(1024));
    Ok(())
}

/// Copies a built program to `to`, unless it is one for tests, and strips it. The eBPF object inside is data, which strip
/// leaves whole.
fn shipped(built: &Path, architecture: Option<Architecture>, to: PathBuf) -> Result<PathBuf> {
    ensure!(
        !has_test_hooks(&fs::read(built)?),
        "{} heeds the environment variables of tests: it was built with the feature test-hooks",
        built.display()
    );
    fs::copy(built, &to)?;
    let strip = architecture.map_or("strip".to_owned(), |it| it.tool("strip"));
    succeed(Command::new(strip).arg("--strip-unneeded").arg(&to))?;
    Ok(to)
}

/// `true` if a binary names an environment variable of the suites.
fn has_test_hooks(binary: &[u8]) -> bool {
    let prefix = b"TFO_TEST_";
    binary.windows(prefix.len()).any(|bytes| bytes == prefix)
}
