//! Pictures of the site's pages, by a headless browser, and of `tfo top`, from a real run.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{
    command::{as_root, repository, succeed},
    setup,
};

const TOOLS: [(&str, &str); 2] = [("chromium", "chromium"), ("ip", "iproute2")];
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// The picture in README.md.
const TOP: &str = "docs/images/top.svg";
/// Pages of the site, and the names of their pictures.
const PAGES: [(&str, &str); 4] = [
    ("index.html", "index"),
    ("docs/guide.html", "guide"),
    ("docs/cli.html", "cli"),
    ("docs/bench/report.html", "report"),
];

/// Draws `tfo top` for README.md.
pub(super) fn top(tfo: &Path) -> Result<()> {
    setup::programs(&TOOLS)?;
    let python = setup::python("site", REQUIREMENTS)?;
    let picture = repository().join(TOP);
    println!("tfo: site: tfo top runs for a minute");
    // What it makes ends with its namespaces. tfo attaches where process 1 has the same BPF file system.
    let mut draw = as_root("unshare")?;
    draw.args(["--mount", "--mount-proc", "--net", "--pid", "--fork"]);
    draw.args(["--kill-child", "--"]);
    draw.arg(python)
        .arg(repository().join("xtask/src/site/top.py"));
    succeed(draw.arg(tfo).arg(&picture))?;
    said(&picture)
}

/// Draws pages of the site as PNG files in `folder`.
pub(super) fn pages(book: &Path, folder: &Path) -> Result<()> {
    setup::programs(&TOOLS)?;
    setup::package("fonts-dejavu-core")?;
    fs::create_dir_all(folder)?;
    for (page, name) in PAGES {
        let picture = folder.join(name).with_extension("png");
        let mut browser = Command::new("chromium");
        // The pages are ours; root has no sandbox.
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ]);
        browser.arg("--window-size=1280,900");
        browser.arg(format!("--screenshot={}", picture.display()));
        browser.arg(format!("file://{}", book.join(page).display()));
        succeed(browser.stdout(Stdio::null()).stderr(Stdio::null()))?;
        ensure!(picture.is_file(), "chromium made no {}", picture.display());
        said(&picture)?;
    }
    Ok(())
}

fn said(picture: &Path) -> Result<()> {
    let size = fs::metadata(picture)?.len().div_ceil(1024);
    println!("tfo: made {}, {size} KiB", picture.display());
    Ok(())
}
