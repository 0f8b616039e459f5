//! The order of folders in ARCHITECTURE.md: none imports one above it.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{circles::shown, resolve::Uses, source::Modules};

/// Crates by their root files, and how the page calls them.
const ORDERED: [(&str, &str); 4] = [
    ("tfo-common/src/lib.rs", "`tfo-common`"),
    ("tfo-ebpf/src/main.rs", "the program"),
    ("tfo-userspace/src/lib.rs", "the controller"),
    ("tfo-userspace/src/main.rs", "the controller"),
];

/// A crate's top-level modules in their order, those of one rank together; `None` for a crate without one.
pub(super) fn order(page: &str, root: &Path) -> Option<Vec<Vec<String>>> {
    let (_, name) = ORDERED.iter().find(|(file, _)| root.ends_with(file))?;
    Some(ranks(page, name))
}

/// The ranks in `In NAME: a, b -> c.`
pub(super) fn ranks(page: &str, name: &str) -> Vec<Vec<String>> {
    let page: Vec<_> = page.split_whitespace().collect();
    let page = page.join(" ");
    let (_, order) = page.split_once(&format!("In {name}: ")).unwrap_or_default();
    let (order, _) = order.split_once('.').unwrap_or_default();
    let names = |rank: &str| rank.split(',').map(|name| name.trim().to_owned()).collect();
    order.split("->").map(names).collect()
}

/// A line for each file that uses one of a folder above its own.
///
/// # Errors
///
/// A module has no place in the order.
pub(super) fn violations(
    ranks: &[Vec<String>],
    modules: &Modules,
    uses: &Uses,
) -> Result<Vec<String>> {
    let rank = |name: &String| {
        let rank = ranks.iter().position(|rank| rank.contains(name));
        rank.with_context(|| {
            format!("ARCHITECTURE.md gives {name} no place: put it into the order of imports")
        })
    };
    let mut found = Vec::new();
    for (file, used) in uses {
        let Some(from) = top(modules, file) else {
            continue;
        };
        for (other, names) in used {
            let Some(to) = top(modules, other) else {
                continue;
            };
            if rank(from)? > rank(to)? {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                found.push(format!("  {} uses {}\n", shown(file), names.join(", ")));
            }
        }
    }
    Ok(found)
}

/// The top-level module that a file belongs to; `None` for the crate's root.
fn top<'a>(modules: &'a Modules, file: &Path) -> Option<&'a String> {
    let (name, _) = modules.iter().find(|(_, module)| module.file == file)?;
    name.first()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_read_from_the_page() {
        let page =
            "**One way.** In the controller: cli,\nservice -> keys -> model. In the program: a.";
        let expected = [vec!["cli", "service"], vec!["keys"], vec!["model"]];
        assert_eq!(ranks(page, "the controller"), expected);
        assert_eq!(ranks(page, "the program"), [["a"]]);
    }
}
