//! A second build, from nothing, which has to give the same bytes.

use std::{fs, io::ErrorKind, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{self, Profile},
    command::target,
};

/// Builds both programs anew, the eBPF object included, and compares them with the first ones. The first build is removed:
/// its folder's path is in the programs.
pub(super) fn build(dynamic: &[u8], fixed: &[u8]) -> Result<()> {
    let start = Instant::now();
    for folder in ["release", "ebpf"] {
        let folder = target()?.join(folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
    }
    same(dynamic, &build::tfo(Profile::Release)?)?;
    same(fixed, &build::static_tfo(None)?)?;
    println!(
        "tfo: a second build gave the same bytes, in {:.0} s",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

/// Fails if a file that was made again has other bytes.
pub(super) fn same(bytes: &[u8], again: &Path) -> Result<()> {
    ensure!(
        fs::read(again)? == bytes,
        "{} made again differs: it is not reproducible",
        again.display()
    );
    Ok(())
}
