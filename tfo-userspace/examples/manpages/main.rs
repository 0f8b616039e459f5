//! Writes the man pages and the shell completions of `tfo`, from the definition of its command line:
//! `cargo run -p tfo-userspace --example manpages -- DIRECTORY`. They come to lie as a system has them, below
//! `man/man8`, `man/man5`, `bash-completion/completions`, `zsh/vendor-completions` and `fish/vendor_completions.d`.
//! With `--counters FILE`, writes docs/counters.md instead.

#[path = "../../src/cli/mod.rs"]
#[allow(
    dead_code,
    reason = "only the definition is used, not what the commands do"
)]
mod cli;
mod completions;
mod counters;
mod page;
mod texts;

use std::{env, fs, path::Path};

use anyhow::Context as _;

/// The file of every key, with comments.
const CONFIGURATION: &str = include_str!("../../../dist/tfo.toml");

fn main() -> anyhow::Result<()> {
    let directory = env::args_os().nth(1).context("which directory?")?;
    if directory == "--counters" {
        let file = env::args_os().nth(2).context("which file?")?;
        return Ok(fs::write(file, counters::page())?);
    }
    let directory = Path::new(&directory);
    completions::write(directory)?;
    let mut command = cli::command();
    command.build();
    let place = directory.join("man/man8");
    fs::create_dir_all(&place)?;
    pages(&command, "tfo", &place)?;
    let place = directory.join("man/man5");
    fs::create_dir_all(&place)?;
    fs::write(place.join("tfo.toml.5"), page::of_file(CONFIGURATION))?;
    Ok(())
}

/// Writes the page of a command, whose name is its words with hyphens, and those of its subcommands.
fn pages(command: &clap::Command, name: &str, place: &Path) -> anyhow::Result<()> {
    fs::write(
        place.join(format!("{name}.8")),
        page::of_command(command, name),
    )?;
    for each in page::subcommands(command) {
        pages(each, &format!("{name}-{}", each.get_name()), place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn examples_are_command_lines() {
        for (name, examples) in texts::EXAMPLES {
            for (example, _) in examples {
                let words = example.split_whitespace();
                let parsed = cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{name}: {example}: {parsed:?}");
                let start = format!("{} ", name.replace('-', " "));
                assert!(format!("{example} ").starts_with(&start), "{example}");
            }
        }
    }

    #[test]
    fn pages_have_what_an_operator_looks_for() {
        let mut command = cli::command();
        command.build();
        let attach = command.find_subcommand("attach").unwrap();
        let text = page::of_command(attach, "tfo-attach");
        for part in [
            ".TH TFO\\-ATTACH 8",
            "[\\fB\\-\\-max\\-sources\\fR \\fIN\\fR]",
            "\\fIIFACE\\fR...",
            ".SH ARGUMENTS",
            ".SH OPTIONS",
            ".SH EXIT STATUS",
            ".SH FILES",
            ".SH EXAMPLES",
            ".SH SEE ALSO",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let file = page::of_file(CONFIGURATION);
        assert!(
            file.contains(".TH TFO.TOML 5") && file.contains("interfaces = ["),
            "{file}"
        );
    }

    #[test]
    fn completions_know_this_host() {
        for (shell, names) in [
            (clap_complete::Shell::Bash, ["/sys/class/net", "/run/netns"]),
            (clap_complete::Shell::Zsh, ["_net_interfaces", "/run/netns"]),
            (clap_complete::Shell::Fish, ["/sys/class/net", "/run/netns"]),
        ] {
            let text = completions::text(shell);
            for name in names.into_iter().chain(["bad-cookie", "reissue"]) {
                assert!(text.contains(name), "{shell}: {name}");
            }
        }
    }

    /// What bash offers for the last of `words`, after the shell commands `before`.
    fn offered(before: &str, words: &[&str]) -> Option<Vec<String>> {
        let script = format!(
            "{before}
            source /dev/stdin <<< \"$script\"
            COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
            _tfo_of_host tfo \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
            printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &script, "bash"])
            .args(words)
            .env("script", completions::text(clap_complete::Shell::Bash))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let offered = text.lines().map(str::to_owned).collect();
        output.status.success().then_some(offered)
    }

    #[test]
    fn bash_completes_names_of_the_host_and_of_tfo() {
        for (words, expected) in [
            (&["tfo", "atta"][..], "attach"),
            (&["tfo", "attach", "l"], "lo"),
            (&["tfo", "detach", "--json", "l"], "lo"),
            (&["tfo", "doctor", ""], "lo"),
            (&["tfo", "run", "-i", "l"], "lo"),
            (&["tfo", "run", "--interface", ""], "lo"),
            (&["tfo", "attach", "--mode", "gen"], "generic"),
            (&["tfo", "stats", "--by", ""], "source"),
            (&["tfo", "events", "--reason", "bad"], "bad-cookie"),
            (&["tfo", "policy", "set", "--bad", "re"], "reissue"),
            (&["tfo", "guard", "set", "a"], "auto"),
        ] {
            let offered = offered("", words).unwrap();
            assert!(
                offered.contains(&expected.to_owned()),
                "{words:?}: {offered:?}"
            );
        }
    }

    /// A directory of namespaces of its own needs a mount namespace.
    #[test]
    fn bash_completes_namespaces() {
        const INSIDE: &str = "TFO_TEST_INSIDE";
        if env::var_os(INSIDE).is_none() {
            let this = env::current_exe().unwrap();
            let mut again = Command::new("unshare");
            again.args(["--user", "--map-root-user", "--mount"]);
            again
                .arg(this)
                .args(["bash_completes_namespaces", "--nocapture"]);
            let output = again.env(INSIDE, "1").output();
            match output {
                Ok(output) if output.status.success() => {}
                Ok(output) if String::from_utf8_lossy(&output.stderr).starts_with("unshare:") => {
                    println!("not tried: no user namespaces here");
                }
                other => panic!("{other:#?}"),
            }
            return;
        }
        let make = "mount -t tmpfs none /run && mkdir /run/netns && \
            touch /run/netns/{blue,black,red} || exit 1";
        let offered = offered(make, &["tfo", "stats", "--netns", "bl"]).unwrap();
        assert_eq!(offered, ["black", "blue"]);
    }
}
