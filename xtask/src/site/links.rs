//! Links that lead nowhere: to a file that is not there, or to a heading that its page does not have.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// The targets of attributes in HTML: `href` and `src`.
const ATTRIBUTES: [&str; 2] = ["href=\"", "src=\""];

/// Checks each link between files of the site that was built. Returns their number.
pub(super) fn in_site(book: &Path) -> Result<usize> {
    let mut pages = Vec::new();
    collect(book, &mut pages)?;
    let mut texts = HashMap::new();
    for page in &pages {
        texts.insert(page.clone(), fs::read_to_string(page)?);
    }
    let (mut checked, mut broken) = (0, Vec::new());
    for page in &pages {
        for link in attributes(&texts[page]) {
            if is_elsewhere(link) {
                continue;
            }
            checked += 1;
            let (file, anchor) = split(link);
            let target = resolve(page, file);
            let found = target.exists()
                && anchor.is_none_or(|anchor| {
                    texts
                        .get(&target)
                        .is_none_or(|text| text.contains(&format!("id=\"{anchor}\"")))
                });
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    ensure!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
    Ok(checked)
}

/// All HTML files below a folder. The page for missing pages has links that depend on where the site is.
fn collect(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|it| it == "html") && !path.ends_with("404.html") {
            pages.push(path);
        }
    }
    Ok(())
}

fn attributes(html: &str) -> impl Iterator<Item = &str> {
    ATTRIBUTES
        .into_iter()
        .flat_map(|name| html.split(name).skip(1))
        .filter_map(|rest| Some(rest.split_once('"')?.0))
}

/// `true` for a link to another host, which nobody can check here.
fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || ["mailto:", "data:"].iter().any(|it| link.starts_with(it))
}

fn split(link: &str) -> (&str, Option<&str>) {
    link.split_once('#')
        .map_or((link, None), |(file, anchor)| (file, Some(anchor)))
}

/// The file that `link` in `page` names; the page itself if it is empty.
fn resolve(page: &Path, link: &str) -> PathBuf {
    if link.is_empty() {
        return page.to_owned();
    }
    let mut path = page.parent().unwrap_or(page).to_owned();
    for part in link.split('/') {
        match part {
            ".." => {
                path.pop();
            }
            "." | "" => {}
            part => path.push(part),
        }
    }
    if path.is_dir() && page.extension().is_none_or(|it| it != "md") {
        path.push("index.html");
    }
    path
}

#[cfg(test)]
mod tests {
    use crate::command::repository;

    use super::*;

    /// The lines of a page outside of code blocks, without code spans.
    fn prose(text: &str) -> String {
        let mut code = false;
        let mut prose = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                code = !code;
            } else if !code {
                // Every second part is code.
                prose.extend(line.split('`').step_by(2));
                prose.push('\n');
            }
        }
        prose
    }

    /// The anchors of a page's headings, as forges and mdBook make them.
    fn anchors(text: &str) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        let mut code = false;
        for line in text.lines() {
            code ^= line.starts_with("```");
            let heading = line.trim_start_matches('#');
            if code || heading.len() == line.len() || !heading.starts_with(' ') {
                continue;
            }
            let kept = heading.trim().to_lowercase();
            let kept = kept
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let before = anchors.iter().filter(|it| **it == anchor).count();
            anchors.push(if before == 0 {
                anchor
            } else {
                format!("{anchor}-{before}")
            });
        }
        anchors
    }

    /// The targets of `[text](target)`. A link may go over the end of a line.
    fn targets(prose: &str) -> impl Iterator<Item = &str> {
        let parts = prose.split("](").skip(1);
        parts.filter_map(|rest| Some(rest.split_once(')')?.0))
    }

    fn broken(page: &Path) -> Vec<String> {
        let text = fs::read_to_string(page).unwrap();
        let prose = prose(&text);
        let leads = |link: &&str| {
            let (file, anchor) = split(link);
            let target = resolve(page, file);
            target.exists()
                && anchor.is_none_or(|anchor| {
                    let text = fs::read_to_string(&target).unwrap_or_default();
                    anchors(&text).iter().any(|it| it == anchor)
                })
        };
        targets(&prose)
            .filter(|link| !is_elsewhere(link) && !leads(link))
            .map(|link| format!("{}: {link}", page.display()))
            .collect()
    }

    #[test]
    fn every_link_in_the_repository_leads_somewhere() {
        let mut pages = Vec::new();
        for folder in ["", "docs", "docs/bench", "deploy"] {
            for entry in fs::read_dir(repository().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|it| it == "md") {
                    pages.push(path);
                }
            }
        }
        assert!(pages.len() > 10, "{pages:?}");
        let broken: Vec<_> = pages.iter().flat_map(|page| broken(page)).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn a_broken_link_is_found() {
        let folder = repository().join("target/xtask-tests/links");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let page = folder.join("a.md");
        let text = "# A `b`, c\n[1](a.md#a-b-c) [2](#a-b-c) [3](b.md) [4](#d)\n`[5](x.md)`\n```\n[6](x.md)\n# d\n```\n";
        fs::write(&page, text).unwrap();
        let found: Vec<_> = broken(&page)
            .iter()
            .map(|it| it.split(": ").nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(found, ["b.md", "#d"]);

        fs::write(
            folder.join("a.html"),
            r##"<h1 id="x"><a href="#x"></a><a href="a.html#x"></a></h1><img src="../y.svg">"##,
        )
        .unwrap();
        let said = in_site(&folder).unwrap_err().to_string();
        assert!(said.ends_with("a.html: ../y.svg"), "{said}");
    }
}
