//! Architectures that `tfo` is built and tested for, and how to build for one that is not this machine's.

use std::{env::consts::ARCH, process::Command, str::FromStr};

use anyhow::{Context as _, Error, Result, bail};

use crate::{
    command::{cargo, output, succeed},
    setup,
};

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// This machine's, if it is one of these.
    pub fn here() -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.name() == ARCH)
    }

    /// `true` if this machine does not run its programs.
    pub fn is_foreign(self) -> bool {
        Self::here() != Some(self)
    }

    /// The name that Debian has for it, and OCI.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name that Linux, Rust and QEMU have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The name of `foreign`, or of this machine's architecture, that Linux and Rust have for it.
    pub fn name_of(foreign: Option<Self>) -> &'static str {
        foreign.map_or(ARCH, Self::name)
    }

    /// Rust's target.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The program of the binutils or of gcc for it: a cross tool if it is foreign.
    pub fn tool(self, name: &str) -> String {
        if self.is_foreign() {
            format!("{}-linux-gnu-{name}", self.name())
        } else {
            name.to_owned()
        }
    }

    /// The subcommand of cargo, for this architecture. Installs the cross tools that are missing.
    ///
    /// # Errors
    ///
    /// A tool cannot be installed.
    pub fn cargo(self, subcommand: &str) -> Result<Command> {
        let mut cargo = cargo();
        cargo.arg(subcommand);
        if self.is_foreign() {
            self.install()?;
            let linker = self.target().replace('-', "_").to_uppercase();
            cargo
                .args(["--target", self.target()])
                .env(format!("CARGO_TARGET_{linker}_LINKER"), self.tool("gcc"));
        }
        Ok(cargo)
    }

    /// A program of this architecture, as a command: emulated if it is foreign. Its system calls reach this kernel.
    ///
    /// # Errors
    ///
    /// The emulator cannot be installed.
    pub fn program(self, path: &std::path::Path) -> Result<Command> {
        if !self.is_foreign() {
            return Ok(Command::new(path));
        }
        let emulator = format!("qemu-{}-static", self.name());
        setup::programs(&[(&emulator, "qemu-user-static")])?;
        let mut command = Command::new(emulator);
        // The C library of the cross compiler.
        let libraries = format!("/usr/{}-linux-gnu", self.name());
        command.env("QEMU_LD_PREFIX", libraries).arg(path);
        Ok(command)
    }

    /// Installs the cross compiler, its C library and Rust's standard library.
    fn install(self) -> Result<()> {
        let [gcc, strip] = ["gcc", "strip"].map(|name| self.tool(name));
        let suffix = format!("{}-linux-gnu", self.name().replace('_', "-"));
        setup::programs(&[
            (&gcc, &format!("gcc-{suffix}")),
            (&strip, &format!("binutils-{suffix}")),
        ])?;
        setup::package(&format!("libc6-dev-{}-cross", self.debian()))?;
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "target-libdir", "--target", self.target()]);
        let library = output(&mut rustc).context("rustc does not start")?;
        if std::path::Path::new(&library).is_dir() {
            return Ok(());
        }
        let target = self.target();
        succeed(Command::new("rustup").args(["target", "add", target])).with_context(|| {
            format!("there is no standard library of Rust for {target}, and rustup cannot add it")
        })
    }
}

impl FromStr for Architecture {
    type Err = Error;

    /// Takes each of its names.
    fn from_str(text: &str) -> Result<Self> {
        let named = |each: &Self| [each.debian(), each.name(), each.target()].contains(&text);
        match Self::ALL.into_iter().find(named) {
            Some(found) => Ok(found),
            None => bail!("the architectures are amd64 and arm64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_three_names() {
        for name in ["arm64", "aarch64", "aarch64-unknown-linux-gnu"] {
            assert_eq!(name.parse::<Architecture>().unwrap(), Architecture::Arm64);
        }
        assert!("mips".parse::<Architecture>().is_err());
    }

    #[test]
    fn tools_of_another_architecture_have_its_name() {
        let [own, foreign] = [Architecture::Amd64, Architecture::Arm64].map(|each| {
            let tool = each.tool("strip");
            if each.is_foreign() {
                assert_eq!(tool, format!("{}-linux-gnu-strip", each.name()));
            } else {
                assert_eq!(tool, "strip");
            }
            each.is_foreign()
        });
        assert!(own || foreign);
    }
}
