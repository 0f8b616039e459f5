//! The pages of the site: which they are, and their order.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::command::repository;

/// The generated page of the command line, which the repository does not have.
pub(super) const CLI: &str = "docs/cli.md";

/// Pages outside of `docs/`, after the contents.
const PROJECT: [&str; 4] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
];

/// Files that pages link to.
const FILES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "dist/tfo.toml"];

/// The pages of the table in `docs/README.md`, in its order, by their path in the repository.
pub(super) fn contents() -> Result<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/README.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ["));
    let pages: Vec<_> = rows
        .filter_map(|row| row.split_once("](")?.1.split_once(')'))
        .map(|(page, _)| page)
        .filter(|page| !page.starts_with("../"))
        .map(|page| format!("docs/{page}"))
        .collect();
    ensure!(!pages.is_empty(), "docs/README.md has no table of pages");
    Ok(pages)
}

/// Copies all pages, the files that they link to, and the pictures.
pub(super) fn copy(contents: &[String], sources: &Path) -> Result<()> {
    let own = ["README.md", "docs/README.md"];
    let pages = own.iter().chain(&PROJECT).chain(&FILES).copied();
    for file in pages.chain(contents.iter().map(String::as_str)) {
        copy_file(file, sources)?;
    }
    for folder in ["docs/bench", "docs/images"] {
        for entry in fs::read_dir(repository().join(folder))? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".svg") {
                copy_file(&format!("{folder}/{name}"), sources)?;
            }
        }
    }
    Ok(())
}

/// mdBook's list of chapters.
pub(super) fn summary(contents: &[String]) -> Result<String> {
    let mut text = String::from("# Summary\n\n[tfo](index.md)\n\n");
    text += "- [Documentation](docs/index.md)\n";
    for page in contents {
        text += &format!("- [{}]({page})\n", title(page)?);
        // After the reference, which the command line is a part of.
        if page == "docs/reference.md" {
            text += &format!("- [Command line]({CLI})\n");
        }
    }
    text += "\n# The project\n\n";
    for page in PROJECT {
        text += &format!("- [{}]({page})\n", title(page)?);
    }
    Ok(text)
}

/// The first heading of a page.
fn title(page: &str) -> Result<String> {
    let text = fs::read_to_string(repository().join(page))
        .with_context(|| format!("docs/README.md names {page}, which is not there"))?;
    let heading = text.lines().find_map(|line| line.strip_prefix("# "));
    heading
        .map(str::to_owned)
        .with_context(|| format!("{page} has no heading"))
}

fn copy_file(file: &str, sources: &Path) -> Result<()> {
    let from = repository().join(file);
    let to = sources.join(in_site(file));
    if from.extension().is_some_and(|it| it == "md") {
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {file}"))?;
        return write(&to, &in_site(&text));
    }
    fs::create_dir_all(to.parent().unwrap_or(sources))?;
    fs::copy(from, &to).with_context(|| format!("cannot copy {file}"))?;
    Ok(())
}

/// The name of a page in the site, also where links have it: mdBook makes `index.html` of a page README.md, but leaves
/// links to it as they are.
fn in_site(text: &str) -> String {
    text.replace("README.md", "index.md")
}

/// Writes a file and the folders above it.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    Ok(fs::write(file, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_docs_is_in_the_contents() {
        let contents = contents().unwrap();
        for entry in fs::read_dir(repository().join("docs")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|it| it == "md") && name != "README.md" {
                assert!(contents.contains(&format!("docs/{name}")), "{name}");
            }
        }
        let summary = summary(&contents).unwrap();
        for page in contents.iter().map(String::as_str).chain(PROJECT) {
            assert!(summary.contains(&format!("]({page})")), "{page}");
        }
        assert!(summary.contains(CLI));
    }
}
