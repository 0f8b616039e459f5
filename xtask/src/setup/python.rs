//! Python's packages that single tasks need, each task's in an environment of its own.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::command::{succeed, target};

use super::package;

/// The Python of `target/tools/NAME`, with what `requirements` lists, as pip has it. It is made anew when the list changes.
///
/// # Errors
///
/// A package cannot be installed.
pub fn python(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = target()?.join("tools").join(name);
    fs::create_dir_all(&folder)?;
    let python = folder.join("bin/python");
    // Written last: what was installed.
    let stamp = folder.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == requirements) {
        return Ok(python);
    }
    package("python3-venv")?;
    let mut venv = Command::new("/usr/bin/python3");
    succeed(venv.args(["-m", "venv", "--clear"]).arg(&folder))?;
    let list = folder.join("wanted.txt");
    fs::write(&list, requirements)?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    succeed(install.arg(list)).with_context(|| format!("pip cannot install what {name} needs"))?;
    fs::write(stamp, requirements)?;
    Ok(python)
}
