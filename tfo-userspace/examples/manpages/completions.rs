//! Completions for bash, zsh and fish: those of the definition, and the interfaces and network namespaces of the host.

use std::{fs, path::Path};

use clap_complete::{Shell, generate};

use super::cli;

/// After the generated function, which it calls.
const BASH: &str = r#"
# Interfaces and network namespaces of this host; everything else is the function above.
_tfo_of_host() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
    local interfaces="$(command ls /sys/class/net 2>/dev/null)"
    case "$prev" in
        --netns)
            COMPREPLY=($(compgen -W "$(command ls /run/netns 2>/dev/null)" -- "$cur") $(compgen -f -- "$cur"))
            return ;;
        -i|--interface)
            COMPREPLY=($(compgen -W "$interfaces" -- "$cur"))
            return ;;
    esac
    _tfo "$@"
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
        *" attach "*|*" detach "*|*" doctor "*) ;;
        *) return ;;
    esac
    case "$prev" in
        --replace|--all|--json|-v|--verbose|[!-]*) ;;
        *) return ;;
    esac
    [[ "$cur" == -* ]] || COMPREPLY=($(compgen -W "$interfaces" -- "$cur"))
}

complete -F _tfo_of_host -o nosort -o bashdefault -o default tfo 2>/dev/null ||
    complete -F _tfo_of_host -o bashdefault -o default tfo
"#;

const ZSH: &str = "
_tfo_namespaces() {
    local -a names
    names=(/run/netns/*(N:t))
    _alternative 'namespaces:network namespace:compadd -a names' 'files:path:_files'
}
";

const FISH: &str = r#"
# Interfaces and network namespaces of this host.
complete -c tfo -n "__fish_seen_subcommand_from attach detach doctor" -f -a "(command ls /sys/class/net 2>/dev/null)"
complete -c tfo -n "__fish_seen_subcommand_from run" -s i -l interface -x -a "(command ls /sys/class/net 2>/dev/null)"
complete -c tfo -l netns -r -a "(command ls /run/netns 2>/dev/null)"
"#;

/// Writes each shell's file below `directory`.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    for (shell, place, file) in [
        (Shell::Bash, "bash-completion/completions", "tfo"),
        (Shell::Zsh, "zsh/vendor-completions", "_tfo"),
        (Shell::Fish, "fish/vendor_completions.d", "tfo.fish"),
    ] {
        let place = directory.join(place);
        fs::create_dir_all(&place)?;
        fs::write(place.join(file), text(shell))?;
    }
    Ok(())
}

/// The file of a shell.
pub(crate) fn text(shell: Shell) -> String {
    let mut bytes = Vec::new();
    generate(shell, &mut cli::command(), "tfo", &mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => text + BASH,
        Shell::Fish => text + FISH,
        Shell::Zsh => {
            let text = text
                .replace(":NAME|PATH:_default", ":NAME|PATH:_tfo_namespaces")
                .replace(":IFACE:_default", ":IFACE:_net_interfaces");
            let lines = text.lines().map(|line| {
                // The positional arguments.
                if line.contains("::interfaces -- ") {
                    line.replace(":_default'", ":_net_interfaces'")
                } else {
                    line.to_owned()
                }
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            // Before the call at the end.
            match text.rfind("\nif [ \"$funcstack[1]\"") {
                Some(end) => format!("{}{ZSH}{}\n", &text[..end], &text[end..]),
                None => text + ZSH,
            }
        }
        _ => text,
    }
}
