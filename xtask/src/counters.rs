//! `cargo xtask counters`: the page of all counters, from the tables of the code.

use std::process::Command;

use anyhow::Result;

use crate::{
    build,
    command::{repository, succeed},
    setup,
};

/// Builds what knows the tables, and has it write docs/counters.md.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or the page cannot be written.
pub fn counters() -> Result<()> {
    setup::ensure()?;
    let pages = build::example("tfo-userspace", "manpages")?;
    let page = repository().join("docs/counters.md");
    succeed(Command::new(pages).arg("--counters").arg(&page))?;
    println!("tfo: wrote {}", page.display());
    Ok(())
}
