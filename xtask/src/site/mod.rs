//! `cargo xtask site`: the documentation as a site, by mdBook, in `target/site/book`.
//!
//! The sources mirror the repository, so that links between pages are the same in both. The contents are the table of
//! `docs/README.md`; the page of the command line is made from `tfo --help`. [`links`] holds that each link leads
//! somewhere: in the repository as a test, and in the site that was built. [`screenshots`] draws pages, and `tfo top`.

mod cli;
mod links;
mod pages;
mod screenshots;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::{succeed, target},
    setup,
};

const BOOK: &str = "[book]
title = \"tfo\"
description = \"An XDP accelerator and controller for TCP Fast Open on Linux servers\"
language = \"en\"
src = \"src\"

[build]
build-dir = \"book\"
create-missing = false

[output.html.print]
enable = false
";

/// Makes the site; with `pictures`, the one of `tfo top` first, as root, then those of its pages, in
/// `target/site/screenshots`.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or a link leads nowhere.
pub fn site(pictures: bool) -> Result<()> {
    setup::ensure()?;
    setup::mdbook()?;
    let tfo = build::tfo(Profile::Dev)?;
    if pictures {
        screenshots::top(&tfo)?;
    }
    let folder = target()?.join("site");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let sources = folder.join("src");
    let contents = pages::contents()?;
    pages::copy(&contents, &sources)?;
    pages::write(&sources.join(pages::CLI), &cli::page(&tfo)?)?;
    pages::write(&sources.join("SUMMARY.md"), &pages::summary(&contents)?)?;
    pages::write(&folder.join("book.toml"), BOOK)?;
    mdbook(&folder)?;
    let book = folder.join("book");
    let checked = links::in_site(&book)?;
    println!(
        "tfo: made {}, with {checked} links that lead somewhere",
        book.join("index.html").display()
    );
    if pictures {
        screenshots::pages(&book, &folder.join("screenshots"))?;
    }
    Ok(())
}

fn mdbook(folder: &Path) -> Result<()> {
    let mdbook = setup::installed("mdbook").context("mdbook was installed and is not there")?;
    let mut build = std::process::Command::new(mdbook);
    build.env("MDBOOK_LOG", "warn").arg("build").arg(folder);
    succeed(&mut build)
}
