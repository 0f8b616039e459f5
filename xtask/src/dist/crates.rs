//! The crates as they would be published: packed by cargo, and installed from these packages alone, outside of the
//! workspace.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::command::{as_root, cargo, succeed, target};

use super::{origin::VERSION, times};

/// The crates of `tfo` that are published, each after those that it needs.
const CRATES: [&str; 4] = ["tfo-common", "tfo-toolchain", "tfo-ebpf", "tfo-userspace"];
/// The one with the command.
const COMMAND: &str = CRATES[3];

/// Packs the crates, has cargo install the command from the packages, and runs `tfo demo`. Returns the program.
pub(super) fn check(folder: &Path) -> Result<PathBuf> {
    let start = Instant::now();
    let mut package = cargo();
    // Installing builds what verifying would.
    package.args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    succeed(package.args(CRATES.iter().flat_map(|name| ["--package", name])))?;
    let outside = env::temp_dir().join(format!("tfo-crates-{}", std::process::id()));
    let installed = install(&outside, folder);
    fs::remove_dir_all(&outside)?;
    let program = installed?;
    let done = start.elapsed();
    succeed(as_root(&program)?.arg("demo"))?;
    times::note(folder, "crates", done, start.elapsed())?;
    println!(
        "tfo: cargo installed {} from the packed crates",
        program.display()
    );
    Ok(program)
}

/// Unpacks the packages in `outside`, and installs below `folder`.
fn install(outside: &Path, folder: &Path) -> Result<PathBuf> {
    let target = target()?;
    fs::create_dir_all(outside)?;
    let mut install = cargo();
    install.current_dir(outside);
    install.args(["install", "--quiet", "--locked", "--force", "--path"]);
    install.arg(format!("{COMMAND}-{VERSION}"));
    install.arg("--root").arg(folder.join("installed"));
    install.arg("--target-dir").arg(folder.join("crates"));
    for name in CRATES {
        let packed = format!("{name}-{VERSION}");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(outside).arg("-xzf");
        succeed(tar.arg(target.join("package").join(format!("{packed}.crate"))))?;
        // In the place of the registry, which does not have them yet.
        if name != COMMAND {
            let path = outside.join(packed);
            install.arg("--config");
            install.arg(format!(
                "patch.crates-io.{name}.path={:?}",
                path.display().to_string()
            ));
        }
    }
    let lock = outside.join(format!("{COMMAND}-{VERSION}/Cargo.lock"));
    fs::write(&lock, local(&fs::read_to_string(&lock)?))?;
    succeed(&mut install).context("cargo cannot install the packed crates")?;
    let program = folder.join("installed/bin/tfo");
    ensure!(
        program.is_file(),
        "cargo installed no {}",
        program.display()
    );
    Ok(program)
}

/// A lock file in which our own crates come from no registry.
fn local(lock: &str) -> String {
    let package = |text: &str| -> String {
        let own = CRATES
            .iter()
            .any(|name| text.contains(&format!("name = \"{name}\"\n")));
        let kept = text.split_inclusive('\n').filter(|line| {
            !own || !(line.starts_with("source = ") || line.starts_with("checksum = "))
        });
        kept.collect()
    };
    let packages = lock.split("[[package]]").map(package);
    packages.collect::<Vec<_>>().join("[[package]]")
}

#[cfg(test)]
mod tests {
    use crate::command::repository;

    use super::*;

    #[test]
    fn own_crates_come_from_no_registry() {
        let lock = "version = 4\n\n[[package]]\nname = \"anyhow\"\nsource = \"r\"\nchecksum = \"c\"\n\n\
                    [[package]]\nname = \"tfo-common\"\nversion = \"1\"\nsource = \"r\"\nchecksum = \"c\"\n";
        let expected = "version = 4\n\n[[package]]\nname = \"anyhow\"\nsource = \"r\"\nchecksum = \"c\"\n\n\
                        [[package]]\nname = \"tfo-common\"\nversion = \"1\"\n";
        assert_eq!(local(lock), expected);
    }

    /// The build script has the profile again, for a build without the workspace.
    #[test]
    fn the_program_has_one_profile() {
        let read = |path| fs::read_to_string(repository().join(path)).unwrap();
        let workspace = read("Cargo.toml").replace("# bpftool shows source lines from this.\n", "");
        let (_, profile) = workspace.split_once("[profile.release]").unwrap();
        let (profile, _) = profile.split_once("[profile.dev]").unwrap();
        let script = read("tfo-userspace/build.rs").replace("\\\"", "\"");
        assert!(script.contains(profile.trim_end()), "{profile}");
    }
}
