//! Directories of pins are closed to other users: who can open one can lock it, and who can write to one can replace
//! what is pinned there.

use std::{
    fs::{self, Metadata},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::process::geteuid;

use super::files::{found, root, version_name};
use crate::{
    datapath::error::{DatapathError, UnsafePins},
    kernel::support::BPFFS,
};

const PRIVATE: u32 = 0o700;
/// Permission bits of group and others, and those of them to write.
const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
/// Of a directory whose files only their owners may rename and remove.
const STICKY: u32 = 0o1000;

/// Refuses the BPF file system, and tfo's directories in it, where another user can change them. What does not exist is
/// safe.
///
/// # Errors
///
/// [`UnsafePins`], or a directory cannot be read.
pub fn check_pins() -> Result<(), DatapathError> {
    check(&root().join(version_name()))
}

/// As [`check_pins`], for the directory `dir` below it and those in between.
pub(super) fn check(dir: &Path) -> Result<(), DatapathError> {
    let bpffs = Path::new(BPFFS);
    let mut dirs: Vec<_> = dir.ancestors().take_while(|it| *it != bpffs).collect();
    dirs.push(bpffs);
    // From the top: what is in a directory is as safe as the directory at best.
    for dir in dirs.into_iter().rev() {
        // Not followed: another user may have made a symbolic link.
        let Some(metadata) = found(fs::symlink_metadata(dir)).map_err(DatapathError::io(dir))?
        else {
            return Ok(());
        };
        judge(dir, &metadata, geteuid().as_raw())?;
    }
    Ok(())
}

/// Creates a directory and its parents, closed to other users.
pub(super) fn create_dir_all(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(dir)
}

/// Closes tfo's directories down to `dir` to other users: an earlier tfo left them open to read.
pub(super) fn close(dir: &Path) -> Result<(), DatapathError> {
    for dir in dir.ancestors().take_while(|it| *it != Path::new(BPFFS)) {
        let metadata = found(fs::symlink_metadata(dir)).map_err(DatapathError::io(dir))?;
        if metadata.is_some_and(|it| it.mode() & GROUP_AND_OTHERS != 0) {
            let closed = fs::set_permissions(dir, fs::Permissions::from_mode(PRIVATE));
            found(closed).map_err(DatapathError::io(dir))?;
        }
    }
    Ok(())
}

fn judge(path: &Path, metadata: &Metadata, user: u32) -> Result<(), UnsafePins> {
    let refuse = |cause: String, remedy: String| {
        let path = path.to_owned();
        Err(UnsafePins {
            path,
            cause,
            remedy,
        })
    };
    let (shown, mode) = (path.display(), metadata.mode());
    let is_bpffs = path == Path::new(BPFFS);
    if ![0, user].contains(&metadata.uid()) {
        let cause = format!(
            "user {} owns it and could replace what is pinned there",
            metadata.uid()
        );
        let remedy = if is_bpffs {
            format!("chown root {shown}")
        } else {
            format!("rm -r {shown}, and chmod 0700 {BPFFS}")
        };
        return refuse(cause, remedy);
    }
    if !metadata.is_dir() {
        return refuse("not a directory".into(), format!("rm {shown}"));
    }
    // In a sticky directory others can add files, but not replace those of root.
    if mode & OTHERS_WRITE != 0 && !(is_bpffs && mode & STICKY != 0) {
        let mode = mode & 0o7777;
        let cause = format!("mode {mode:04o} lets other users replace what is pinned there");
        return refuse(cause, format!("chmod 0700 {shown}"));
    }
    Ok(())
}
