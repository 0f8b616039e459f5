//! The toolchain and the linker that build the eBPF program.
//!
//! Rust ships no `core` for the BPF target: the build compiles it from source. The source is rustup's component
//! `rust-src`, or Debian's package `rust-web-src` for its `rustc-web`, which `cargo xtask setup` links into rustup as
//! [`DEBIAN`]. bpf-linker links the object: its LLVM must be at least as new as the compiler's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

mod command;

pub use self::command::{output, which};

/// The environment variable that names the toolchain to use.
pub const OVERRIDE: &str = "TFO_EBPF_TOOLCHAIN";

/// The name under which Debian's compiler is linked into rustup.
pub const DEBIAN: &str = "debian-web";

/// The source of `core`, relative to a toolchain's sysroot.
pub const CORE_SOURCE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

/// The remedies that work outside of the repository, too.
const GET_CORE: &str = "`rustup toolchain install nightly --component rust-src` adds it; so does `cargo xtask setup` in \
                        the repository";
const GET_LINKER: &str = "`cargo install bpf-linker` installs it, with LLVM's development package; so does `cargo xtask \
                          setup` in the repository";

/// A toolchain as rustup knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its name for `rustup run`.
    pub name: String,
    /// The compiler's version.
    pub release: String,
    /// The major version of the compiler's LLVM.
    pub llvm: u32,
    /// `true` with the source of `core`.
    pub has_core: bool,
}

impl Toolchain {
    /// Runs the toolchain's compiler. `None` if rustup has no such toolchain or it is older than the workspace's
    /// `rust-version`.
    pub fn inspect(name: &str) -> Option<Self> {
        let sysroot = output(rustc(name).args(["--print", "sysroot"]))?;
        let has_core = Path::new(&sysroot).join(CORE_SOURCE).is_file();
        Self::parse(name, has_core, &output(rustc(name).arg("-vV"))?)
    }

    /// Parses the output of `rustc -vV`.
    fn parse(name: &str, has_core: bool, version: &str) -> Option<Self> {
        let field = |name| version.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?.to_owned();
        let recent = minor(&release)? >= minor(env!("CARGO_PKG_RUST_VERSION"))?;
        recent.then_some(Self {
            name: name.to_owned(),
            release,
            llvm: leading_number(field("LLVM version: ")?)?,
            has_core,
        })
    }
}

/// The linker of BPF objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// Its executable.
    pub path: PathBuf,
    /// Its version, as it prints it.
    pub version: String,
    /// The major version of the LLVM library that it loads; `None` if LLVM is linked statically.
    pub llvm: Option<u32>,
}

impl Linker {
    /// Finds the linker where rustc will, and runs it.
    pub fn find() -> Option<Self> {
        let path = which("bpf-linker").or_else(|| {
            let home = env::var_os("CARGO_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
            Some(home.join("bin/bpf-linker")).filter(|path| path.is_file())
        })?;
        let version = output(Command::new(&path).arg("--version"))?;
        Some(Self {
            version: version.replace("bpf-linker ", ""),
            llvm: loaded_llvm(&fs::read(&path).ok()?),
            path,
        })
    }

    /// `true` if the linker reads the bitcode of a compiler with this major version of LLVM.
    pub fn reads(&self, llvm: u32) -> bool {
        self.llvm.is_none_or(|own| own >= llvm)
    }
}

/// The toolchain to build the eBPF program with.
///
/// # Errors
///
/// A tool is missing: one line names it and the remedy.
pub fn find() -> Result<Toolchain> {
    require(candidates()?, Linker::find(), overridden().as_deref())
}

/// [`choose`], with an error that names what is missing.
fn require(
    candidates: Vec<Toolchain>,
    linker: Option<Linker>,
    overridden: Option<&str>,
) -> Result<Toolchain> {
    let with_core = candidates.iter().find(|toolchain| toolchain.has_core);
    let Some(with_core) = with_core.cloned() else {
        if let Some(name) = overridden {
            bail!("{OVERRIDE} names {name}, which has no source of core: {GET_CORE}");
        }
        bail!(
            "no Rust toolchain here has the source of core, to build the eBPF program: {GET_CORE}"
        );
    };
    let linker = linker.with_context(|| {
        format!("bpf-linker, which links the eBPF program, is missing: {GET_LINKER}")
    })?;
    choose(candidates, &linker).with_context(|| {
        format!(
            "{} has LLVM {}, too old for {}, which has LLVM {}: {GET_LINKER}; or name an older toolchain in {OVERRIDE}",
            linker.path.display(),
            linker.llvm.unwrap_or_default(),
            with_core.name,
            with_core.llvm
        )
    })
}

/// The first toolchain with the source of `core` whose bitcode the linker reads.
pub fn choose(candidates: Vec<Toolchain>, linker: &Linker) -> Option<Toolchain> {
    candidates
        .into_iter()
        .find(|toolchain| toolchain.has_core && linker.reads(toolchain.llvm))
}

/// The toolchains to choose from, best first, with and without the source of `core`.
///
/// # Errors
///
/// There is no rustup, or [`OVERRIDE`] names a toolchain that it does not have.
pub fn candidates() -> Result<Vec<Toolchain>> {
    if which("rustup").is_none() {
        bail!("rustup is missing: install it from https://rustup.rs");
    }
    if let Some(name) = overridden() {
        let toolchain = Toolchain::inspect(&name).with_context(|| {
            format!("{OVERRIDE} names {name}, which rustup cannot run or is too old")
        })?;
        return Ok(vec![toolchain]);
    }
    let mut names = vec!["nightly".to_owned()];
    names.extend(active());
    names.extend(["stable".to_owned(), DEBIAN.to_owned()]);
    Ok(names
        .iter()
        .filter_map(|name| Toolchain::inspect(name))
        .collect())
}

/// The toolchain that [`OVERRIDE`] names, if any.
pub fn overridden() -> Option<String> {
    env::var(OVERRIDE).ok().filter(|name| !name.is_empty())
}

/// rustup's active toolchain in this folder.
pub fn active() -> Option<String> {
    let line = output(&mut rustup(&["show", "active-toolchain"]))?;
    line.split_whitespace().next().map(ToOwned::to_owned)
}

/// rustup, without prompts and without automatic installation of toolchains.
pub fn rustup(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(args)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null());
    command
}

/// The compiler of one toolchain.
fn rustc(toolchain: &str) -> Command {
    let mut command = rustup(&["run", toolchain, "rustc"]);
    // Cargo sets these for a build script.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
    command
}

/// The major version in the name of the LLVM library that an executable loads.
fn loaded_llvm(executable: &[u8]) -> Option<u32> {
    const NAMES: [&[u8]; 2] = [b"libLLVM.so.", b"libLLVM-"];
    NAMES.iter().find_map(|name| {
        executable
            .windows(name.len())
            .enumerate()
            .filter(|(_, window)| window == name)
            .find_map(|(at, _)| {
                let rest = &executable[at + name.len()..];
                leading_number(str::from_utf8(&rest[..rest.len().min(2)]).ok()?)
            })
    })
}

/// The second number of a version `1.N`.
fn minor(version: &str) -> Option<u32> {
    leading_number(version.strip_prefix("1.")?)
}

/// The decimal number at the start of a text.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\n\
                           LLVM version: 22.1.8";

    fn toolchain(name: &str, has_core: bool, llvm: u32) -> Toolchain {
        Toolchain {
            name: name.to_owned(),
            release: "1.96.0".to_owned(),
            llvm,
            has_core,
        }
    }

    fn linker(llvm: Option<u32>) -> Linker {
        Linker {
            path: "bpf-linker".into(),
            version: "0.13.0".to_owned(),
            llvm,
        }
    }

    #[test]
    fn a_compiler_is_known_by_what_it_says() {
        let parsed = Toolchain::parse("debian-web", true, VERSION);
        assert_eq!(parsed, Some(toolchain("debian-web", true, 22)));
        assert_eq!(Toolchain::parse("x", true, "rustc 1.96.0"), None);
    }

    #[test]
    fn an_old_compiler_is_no_candidate() {
        let old = VERSION.replace("release: 1.96.0", "release: 1.63.0");
        assert_eq!(Toolchain::parse("x", true, &old), None);
        let nightly = VERSION.replace("release: 1.96.0", "release: 1.97.0-nightly");
        assert!(Toolchain::parse("x", true, &nightly).is_some());
    }

    #[test]
    fn the_linkers_llvm_is_in_the_name_of_its_library() {
        assert_eq!(loaded_llvm(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(loaded_llvm(b"\0libLLVM-15.so.1\0"), Some(15));
        assert_eq!(loaded_llvm(b"libLLVM.so.%d\0libLLVM.so.21"), Some(21));
        assert_eq!(loaded_llvm(b"libLLVM.so."), None);
        assert_eq!(loaded_llvm(b"nothing of the kind"), None);
    }

    #[test]
    fn the_linker_reads_its_own_llvm_and_older() {
        assert!(linker(Some(22)).reads(22));
        assert!(linker(Some(23)).reads(22));
        assert!(!linker(Some(21)).reads(22));
        assert!(linker(None).reads(99));
    }

    #[test]
    fn a_toolchain_without_core_or_too_new_for_the_linker_is_passed_over() {
        let all = || {
            vec![
                toolchain("nightly", true, 23),
                toolchain("stable", false, 22),
                toolchain(DEBIAN, true, 22),
            ]
        };
        let chosen = |llvm| choose(all(), &linker(llvm)).map(|toolchain| toolchain.name);
        assert_eq!(chosen(Some(22)).as_deref(), Some(DEBIAN));
        assert_eq!(chosen(Some(23)).as_deref(), Some("nightly"));
        assert_eq!(chosen(Some(21)), None);
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let told = |has_core, linker, overridden| {
            let candidates = vec![toolchain("nightly", has_core, 23)];
            require(candidates, linker, overridden).map_err(|error| error.to_string())
        };
        let no_core = told(false, Some(linker(None)), None).unwrap_err();
        assert!(no_core.contains("source of core") && no_core.contains("--component rust-src"));
        let named = told(false, None, Some("nightly")).unwrap_err();
        assert!(
            named.starts_with("TFO_EBPF_TOOLCHAIN names nightly"),
            "{named}"
        );
        let no_linker = told(true, None, None).unwrap_err();
        assert!(
            no_linker.starts_with("bpf-linker, ") && no_linker.contains("cargo install bpf-linker")
        );
        let old = told(true, Some(linker(Some(21))), None).unwrap_err();
        assert!(
            old.starts_with("bpf-linker has LLVM 21, too old for nightly"),
            "{old}"
        );
        assert!(told(true, Some(linker(Some(23))), None).is_ok());
    }
}
