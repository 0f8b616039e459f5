//! Writes the man pages and the shell completions of `tfo`, from the definition of its command line:
//! `cargo run -p tfo-userspace --example pages -- DIRECTORY`. They come to lie as a system has them, below
//! `man/man1`, `bash-completion/completions`, `zsh/vendor-completions` and `fish/vendor_completions.d`.

#[path = "../src/cli/mod.rs"]
#[allow(
    dead_code,
    reason = "only the definition is used, not what the commands do"
)]
mod cli;

use std::{env, fs, path::Path};

use anyhow::Context as _;
use clap::Command;
use clap_complete::{Shell, generate_to};

fn main() -> anyhow::Result<()> {
    let directory = env::args_os().nth(1).context("which directory?")?;
    let directory = Path::new(&directory);
    let mut command = cli::command();
    for (shell, place, file) in [
        (Shell::Bash, "bash-completion/completions", "tfo"),
        (Shell::Zsh, "zsh/vendor-completions", "_tfo"),
        (Shell::Fish, "fish/vendor_completions.d", "tfo.fish"),
    ] {
        let place = directory.join(place);
        fs::create_dir_all(&place)?;
        let made = generate_to(shell, &mut command, "tfo", &place)?;
        fs::rename(made, place.join(file))?;
    }
    let place = directory.join("man/man1");
    fs::create_dir_all(&place)?;
    clap_mangen::generate_to(without_help(cli::command()), place)?;
    Ok(())
}

/// Without the subcommand `help`, which would have a page for each page.
fn without_help(command: Command) -> Command {
    let subcommands: Vec<_> = command
        .get_subcommands()
        .map(|each| each.get_name().to_owned())
        .collect();
    subcommands
        .iter()
        .fold(command.disable_help_subcommand(true), |command, name| {
            command.mut_subcommand(name, without_help)
        })
}
