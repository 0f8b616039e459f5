//! The page of the command line, from what `tfo --help` prints of each command.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::command::output;

/// All commands with their options, in the order of the help.
pub(super) fn page(tfo: &Path) -> Result<String> {
    let mut page = String::from(
        "# Command line\n\nWhat `tfo COMMAND --help` prints. [The reference](reference.md) says more.\n",
    );
    describe(tfo, &mut Vec::new(), &mut page)?;
    Ok(page)
}

/// Appends the help of a command, and that of the commands below it.
fn describe(tfo: &Path, command: &mut Vec<String>, page: &mut String) -> Result<()> {
    let mut help = Command::new(tfo);
    help.args(&*command).arg("--help");
    let name = [&["tfo".to_owned()], command.as_slice()].concat().join(" ");
    let text = output(&mut help).with_context(|| format!("{name} --help failed"))?;
    *page += &format!("\n## {name}\n\n```text\n{text}\n```\n");
    for below in commands(&text) {
        command.push(below);
        describe(tfo, command, page)?;
        command.pop();
    }
    Ok(())
}

/// The names in the section "Commands:".
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_the_help() {
        let help = "Usage: tfo\n\nCommands:\n  run     Run,\n            and more\n  stats   Show\n  help    Print\n\nOptions:\n  -v  x\n";
        assert_eq!(commands(help), ["run", "stats"]);
        assert!(commands("Usage: tfo run\n").is_empty());
    }
}
