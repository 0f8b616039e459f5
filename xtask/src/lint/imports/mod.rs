//! Which file uses which: no two use each other, directly or by way of others, and no folder imports one above it.
//!
//! A file uses another one if it imports or names an item that is defined there, wherever it is passed on. To declare a
//! module, and to pass on what it defines, is not to use it. Calls of methods are not seen: they name no file.

mod circles;
mod order;
mod resolve;
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::resolve::Uses;
use crate::command::{cargo, output, repository};

/// Checks all crates.
///
/// # Errors
///
/// Files or folders use each other, or a folder one above it.
pub(super) fn check() -> Result<()> {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md"))?;
    // Two crates may have a file in common.
    let mut found = BTreeSet::new();
    for root in roots()? {
        let modules = source::modules(&root)?;
        let uses = resolve::uses(&modules);
        found.extend(circular(&modules, &uses));
        if let Some(ranks) = order::order(&page, &root) {
            found.extend(order::violations(&ranks, &modules, &uses)?);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<_> = found.into_iter().collect();
    bail!(
        "imports do not run one way:\n{}\nmove what both sides use to a place below both",
        found.join("\n")
    )
}

/// Circles of files; where there are none, of folders.
fn circular(modules: &source::Modules, uses: &Uses) -> Vec<String> {
    let files = circles::circles(uses);
    if files.is_empty() {
        circles::circles(&circles::between_siblings(modules, uses))
    } else {
        files
    }
}

/// The root files of all crates: libraries, programs, examples, tests and build scripts.
fn roots() -> Result<Vec<PathBuf>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = output(&mut metadata).context("cargo cannot list the workspace's crates")?;
    let paths = text.split("\"src_path\":\"").skip(1);
    let paths = paths.filter_map(|path| path.split('"').next());
    let paths: Vec<_> = paths.map(|path| Path::new(path).to_owned()).collect();
    ensure!(!paths.is_empty(), "cargo lists no crate of the workspace");
    Ok(paths)
}

#[cfg(test)]
mod tests;
