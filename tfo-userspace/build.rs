//! Builds the eBPF program, and leaves it at `$OUT_DIR/tfo-ebpf` for the controller to include.
//!
//! It is another cargo, with another toolchain, inside the one that runs this script: nothing that
//! steers the outer build may reach the inner one.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};
use tfo_ebpf_sources::{COMMON, PROGRAM};
use tfo_toolchain as toolchain;

/// The workspace manifest's profile of the program, for a build without the workspace.
const PROFILE: &str = "
[workspace]

[profile.release]
codegen-units = 1
lto = \"thin\"

[profile.release.package.tfo-ebpf]
debug = 2
";

/// Variables that cargo, clippy, wrappers and users set for the outer build.
const OUTER: [&str; 9] = [
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTUP_TOOLCHAIN",
];

/// Of such variables, the first parts of names that go on with a feature's or a setting's name.
const OUTER_PREFIXES: [&str; 3] = ["CARGO_FEATURE_", "CARGO_PROFILE_", "DEP_"];

fn main() {
    if let Err(error) = build() {
        // This fails the build in one line. A failing exit status would make cargo print all that
        // this script has said as well.
        println!("cargo::error={error:#}");
    }
}

fn build() -> Result<()> {
    println!("cargo::rerun-if-env-changed={}", toolchain::OVERRIDE);
    let toolchain = toolchain::find()?;
    if !in_workspace()? {
        env::set_current_dir(copy_of_program()?)?;
    }
    let features: &[&str] = if env::var_os("CARGO_FEATURE_TRACE").is_some() {
        &["trace"]
    } else {
        &[]
    };
    separate()?;
    aya_build::build_ebpf(
        [Package {
            name: "tfo-ebpf",
            root_dir: PROGRAM,
            no_default_features: false,
            features,
        }],
        Toolchain::Custom(&toolchain.name),
    )
    .or_else(|error| {
        println!("cargo::warning={error:#}");
        bail!(
            "the eBPF program does not build with {}: the warnings above say why",
            toolchain.name
        )
    })
}

/// `true` if the program is beside this package, in one workspace. It is not where cargo installs this package from a
/// registry, or verifies it. Tells cargo the inputs of the program outside its own folder, which aya-build watches.
fn in_workspace() -> Result<bool> {
    println!("cargo::rerun-if-changed={COMMON}");
    let own = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let within = Path::new(&own).with_file_name("tfo-ebpf") == Path::new(PROGRAM);
    if within {
        println!("cargo::rerun-if-changed=../Cargo.toml");
        println!("cargo::rerun-if-changed=../Cargo.lock");
    }
    Ok(within)
}

/// Copies the program's package to `$OUT_DIR/program`, where it becomes a workspace with the profile of ours, and takes
/// `tfo-common` from where the outer build has it. Nothing is written to a registry's folder.
fn copy_of_program() -> Result<PathBuf> {
    let out = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let to = Path::new(&out).join("program");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    copy(Path::new(PROGRAM), &to)?;
    let mut manifest = fs::OpenOptions::new()
        .append(true)
        .open(to.join("Cargo.toml"))?;
    write!(
        manifest,
        "{PROFILE}\n[patch.crates-io]\ntfo-common = {{ path = {COMMON:?} }}\n"
    )?;
    Ok(to)
}

/// Copies a folder with all below it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if from.is_dir() {
            copy(&from, &to.join(name))?;
        } else {
            fs::copy(from, to.join(name))?;
        }
    }
    Ok(())
}

/// Keeps the outer build's environment from the inner build.
fn separate() -> Result<()> {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OUTER.contains(&&*text) || OUTER_PREFIXES.iter().any(|it| text.starts_with(it)) {
            set(&name, None);
        }
    }
    // Lets a toolchain that is not a nightly compile core; aya-build asks for it then.
    set("RUSTC_BOOTSTRAP", Some("1".as_ref()));
    // Every line becomes a warning of this package: only those that are.
    set("CARGO_TERM_QUIET", Some("true".as_ref()));
    set("RUSTUP_LOG", Some("error".as_ref()));
    // Core and the dependencies are compiled once, not again for each profile and feature of the
    // controller.
    set("CARGO_BUILD_BUILD_DIR", Some(&shared_folder()?));
    Ok(())
}

/// A folder for the inner build, in the outer build's target folder: cargo marks that with a tag.
fn shared_folder() -> Result<OsString> {
    let out = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let target = Path::new(&out)
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    Ok(target.unwrap_or(out.as_ref()).join("ebpf").into_os_string())
}

/// Sets or removes a variable of this process, for the processes that it starts.
fn set(name: impl AsRef<OsStr>, value: Option<&OsStr>) {
    match value {
        // SAFETY: this script has only one thread yet.
        Some(value) => unsafe { env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { env::remove_var(name) },
    }
}
