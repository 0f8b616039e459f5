//! The toolchain and the linker of the eBPF program.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{cargo, output, succeed, succeeds_within},
    step::progress,
    toolchain::{self, CORE_SOURCE, DEBIAN, Linker, Toolchain, rustup},
};

use super::apt::Apt;

/// The survey's text for [`toolchain()`].
pub(super) const TOOLCHAIN_PLAN: &str =
    "rustup component add rust-src, or else apt-get install rustc-web rust-web-src";

/// The survey's text for [`linker`].
pub(super) const LINKER_PLAN: &str = "cargo install bpf-linker, with apt-get install llvm-*-dev";

/// The version of bpf-linker to install, and the LLVM versions that it can be built with.
const LINKER_VERSION: &str = "0.13.0";
const LINKER_LLVM: RangeInclusive<u32> = 21..=23;

/// Time limit for rustup, which may try for many minutes to reach its server.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(45);

/// The sysroot of Debian's compiler.
const DEBIAN_PREFIX: &str = "/usr";

/// Finds a toolchain that can build the eBPF program, or installs one.
pub(super) fn toolchain(apt: &mut Apt) -> Result<Toolchain> {
    let candidates = toolchain::candidates()?;
    let linker = Linker::find();
    for candidate in &candidates {
        let readable = linker.as_ref().is_some_and(|it| it.reads(candidate.llvm));
        if candidate.has_core && (readable || llvm_for(candidate, apt)?.is_some()) {
            return Ok(candidate.clone());
        }
    }
    if let Some(name) = toolchain::overridden().or_else(toolchain::active)
        && let Some(mut found) = Toolchain::inspect(&name)
        && (linker.is_some_and(|it| it.reads(found.llvm)) || llvm_for(&found, apt)?.is_some())
        && add_source(&name)
    {
        found.has_core = true;
        return Ok(found);
    }
    if let Some(name) = toolchain::overridden() {
        bail!("{name} has no source of core, and rustup cannot add the component rust-src to it");
    }
    debian(apt)
}

/// Ensures a linker that reads the toolchain's bitcode.
pub(super) fn linker(apt: &mut Apt, toolchain: &Toolchain) -> Result<()> {
    if Linker::find().is_some_and(|linker| linker.reads(toolchain.llvm)) {
        return Ok(());
    }
    let version = llvm_for(toolchain, apt)?.with_context(|| {
        format!(
            "bpf-linker needs LLVM {} or newer, of which this system has no development package: \
             install bpf-linker from https://github.com/aya-rs/bpf-linker/releases",
            toolchain.llvm
        )
    })?;
    if llvm_prefix(version).is_none() {
        apt.install(&[&llvm_package(version)])?;
    }
    let prefix = llvm_prefix(version)
        .with_context(|| format!("there is no libLLVM.so of LLVM {version} after its install"))?;
    progress(&format!(
        "cargo install bpf-linker {LINKER_VERSION}, with LLVM {version}"
    ));
    succeed(
        cargo()
            .args(["install", "bpf-linker", "--version", LINKER_VERSION])
            .args(["--locked", "--force", "--no-default-features"])
            .args(["--features", &format!("llvm-{version}")])
            .env("LLVM_PREFIX", prefix),
    )?;
    match Linker::find() {
        Some(found) if found.reads(toolchain.llvm) => Ok(()),
        Some(found) => bail!(
            "{} comes before the installed bpf-linker in PATH: remove it",
            found.path.display()
        ),
        None => bail!("bpf-linker was installed but does not start"),
    }
}

/// The LLVM to build the linker with: at least as new as the toolchain's, and installed or available as a package.
fn llvm_for(toolchain: &Toolchain, apt: &mut Apt) -> Result<Option<u32>> {
    for version in LINKER_LLVM.filter(|version| *version >= toolchain.llvm) {
        if llvm_prefix(version).is_some() || apt.offers(&llvm_package(version))? {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

fn llvm_package(version: u32) -> String {
    format!("llvm-{version}-dev")
}

/// The prefix of an installed LLVM of this version, if it has libLLVM.so.
fn llvm_prefix(version: u32) -> Option<PathBuf> {
    let complete = |prefix: &Path| {
        ["lib", "lib64"]
            .iter()
            .any(|folder| prefix.join(folder).join("libLLVM.so").exists())
    };
    let debian = PathBuf::from(format!("/usr/lib/llvm-{version}"));
    if complete(&debian) {
        return Some(debian);
    }
    let config = |what| output(Command::new("llvm-config").arg(what));
    let prefix = PathBuf::from(config("--prefix")?);
    let major = format!("{version}.");
    (config("--version")?.starts_with(&major) && complete(&prefix)).then_some(prefix)
}

/// Lets rustup add the source of `core` to a toolchain. Failure, such as an unreachable server, is no error: Debian's
/// toolchain is tried next.
fn add_source(toolchain: &str) -> bool {
    progress(&format!("rustup component add rust-src, to {toolchain}"));
    let mut command = rustup(&["component", "add", "rust-src", "--toolchain", toolchain]);
    command
        .env("RUSTUP_MAX_RETRIES", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let added = succeeds_within(&mut command, RUSTUP_PATIENCE)
        && Toolchain::inspect(toolchain).is_some_and(|toolchain| toolchain.has_core);
    if !added {
        progress("rustup cannot add it");
    }
    added
}

/// Installs Debian's compiler with the source of `core`, and links it into rustup.
fn debian(apt: &mut Apt) -> Result<Toolchain> {
    let usable = |toolchain: &Toolchain| toolchain.has_core;
    if let Some(found) = Toolchain::inspect(DEBIAN).filter(usable) {
        return Ok(found);
    }
    let prefix = Path::new(DEBIAN_PREFIX);
    if !(prefix.join("bin/rustc").exists() && prefix.join(CORE_SOURCE).exists()) {
        if !apt.offers("rust-web-src")? {
            bail!(
                "there is no package rust-web-src, and rustup cannot reach its server: \
                 run `rustup component add rust-src` where it can"
            );
        }
        apt.install(&["rustc-web", "rust-web-src"])?;
    }
    progress(&format!("rustup toolchain link {DEBIAN} {DEBIAN_PREFIX}"));
    succeed(rustup(&["toolchain", "link", DEBIAN, DEBIAN_PREFIX]).stderr(Stdio::null()))?;
    Toolchain::inspect(DEBIAN).filter(usable).with_context(|| {
        format!("{DEBIAN_PREFIX}/bin/rustc is too old, or the source of its core is not beside it")
    })
}
