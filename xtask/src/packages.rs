//! Debian's packages of an architecture: by this system's lists, or for another architecture by lists of their own,
//! so that this system takes no second architecture.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    command::{output, repository, status, succeed},
};

/// apt's lists and cache.
pub(crate) struct Packages {
    /// The configuration of apt; this system's if `None`.
    configuration: Option<PathBuf>,
}

impl Packages {
    /// The packages for an architecture, with the newest lists that can be had.
    pub(crate) fn of(architecture: Architecture) -> Result<Self> {
        if !architecture.is_foreign() {
            return Ok(Self {
                configuration: None,
            });
        }
        let folder = repository().join("target/apt").join(architecture.debian());
        for each in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(each))?;
        }
        // Nothing is installed, so a package comes with all that it depends on.
        let installed = folder.join("status");
        fs::write(&installed, "")?;
        let text = format!(
            "APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             Dir::State \"{folder}\";\nDir::State::status \"{installed}\";\nDir::Cache \"{folder}/cache\";\n",
            name = architecture.debian(),
            folder = folder.display(),
            installed = installed.display(),
        );
        let configuration = folder.join("apt.conf");
        fs::write(&configuration, text)?;
        let packages = Self {
            configuration: Some(configuration),
        };
        // Where it fails, older lists may do. If there are none, what is looked for is missing.
        status(packages.apt("apt-get").args(["-qq", "update"]))?;
        Ok(packages)
    }

    /// A program of apt.
    pub(crate) fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(configuration) = &self.configuration {
            command.env("APT_CONFIG", configuration);
        }
        command
    }

    /// Downloads a package into `folder`, which is emptied first, and returns its path.
    pub(crate) fn download(&self, name: &str, folder: &Path) -> Result<PathBuf> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let mut apt = self.apt("apt-get");
        succeed(apt.args(["-q", "download", name]).current_dir(folder))?;
        let file = fs::read_dir(folder)?.next();
        Ok(file.context("apt-get downloaded no package")??.path())
    }

    /// Downloads packages of a foreign architecture with all that they depend on, and unpacks them below `root`. None
    /// of their scripts runs; dpkg takes them for installed.
    pub(crate) fn unpack(&self, names: &[&str], root: &Path) -> Result<()> {
        let configuration = self.configuration.as_ref();
        let archives = configuration
            .and_then(|file| file.parent())
            .context("this system's packages are installed already")?
            .join("cache/archives");
        // Of older lists.
        succeed(self.apt("apt-get").arg("clean"))?;
        let mut apt = self.apt("apt-get");
        apt.args(["-qq", "install", "--yes", "--no-install-recommends"]);
        succeed(apt.arg("--download-only").args(names))?;
        let mut installed = String::new();
        for entry in fs::read_dir(archives)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                succeed(Command::new("dpkg-deb").arg("-x").arg(&file).arg(root))?;
                let fields = output(Command::new("dpkg-deb").arg("-f").arg(&file));
                let fields = fields.context("dpkg-deb cannot read a package")?;
                installed += &format!("{fields}\nStatus: install ok installed\n\n");
            }
        }
        let dpkg = root.join("var/lib/dpkg");
        for each in ["info", "triggers", "updates"] {
            fs::create_dir_all(dpkg.join(each))?;
        }
        // Files that dpkg makes when it runs for the first time.
        fs::write(dpkg.join("info/format"), "1\n")?;
        for each in [
            "lock",
            "lock-frontend",
            "triggers/Lock",
            "triggers/Unincorp",
        ] {
            fs::write(dpkg.join(each), "")?;
        }
        Ok(fs::write(dpkg.join("status"), installed)?)
    }
}
