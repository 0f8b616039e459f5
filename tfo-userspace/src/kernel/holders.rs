//! The processes that hold a socket: the links of `/proc/PID/fd`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

/// A process that holds a socket, and its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process id, in the PID namespace of the mounted `/proc`.
    pub pid: i32,
    /// Its name: `comm`.
    pub process: String,
    /// The descriptor.
    pub descriptor: i32,
}

/// The holders of sockets by inode.
#[derive(Debug, Default)]
pub struct Holders {
    /// By inode, in the order of process ids.
    pub by_inode: BTreeMap<u32, Vec<Holder>>,
    /// Processes whose descriptors this one may not read.
    pub closed: usize,
}

/// Looks through the descriptors of all processes for the sockets with these inodes. One that ends meanwhile has none.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn of(inodes: &BTreeSet<u32>) -> io::Result<Holders> {
    let mut holders = Holders::default();
    if inodes.is_empty() {
        return Ok(holders);
    }
    let mut pids: Vec<i32> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => search(pid, files, inodes, &mut holders),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => holders.closed += 1,
            // It ended.
            Err(_) => {}
        }
    }
    Ok(holders)
}

fn search(pid: i32, files: fs::ReadDir, inodes: &BTreeSet<u32>, holders: &mut Holders) {
    for file in files.flatten() {
        let inode = match fs::read_link(file.path()) {
            Ok(target) => target.to_str().and_then(inode),
            // Readable directory, unreadable links: a process of the same user that is not dumpable.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                holders.closed += 1;
                return;
            }
            Err(_) => None,
        };
        let Some(inode) = inode.filter(|inode| inodes.contains(inode)) else {
            continue;
        };
        let name = file.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let held = holders.by_inode.entry(inode).or_default();
        // One descriptor of each process is enough.
        if held.last().is_none_or(|last| last.pid != pid) {
            held.push(Holder {
                pid,
                process: name_of(pid),
                descriptor,
            });
        }
    }
}

/// The inode in a link such as `socket:[1234]`.
fn inode(target: &str) -> Option<u32> {
    let number = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

fn name_of(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd as _, linux::fs::MetadataExt as _},
    };

    use super::*;

    #[test]
    fn this_process_holds_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptor = listener.as_raw_fd();
        let inode = fs::metadata(format!("/proc/self/fd/{descriptor}")).unwrap();
        let inode = u32::try_from(inode.st_ino()).unwrap();
        let found = of(&[inode].into()).unwrap();
        let pid = std::process::id().cast_signed();
        let held = &found.by_inode[&inode];
        assert!(
            held.iter()
                .any(|it| it.pid == pid && it.descriptor == descriptor),
            "{held:?}"
        );
    }

    #[test]
    fn only_sockets_have_an_inode_here() {
        assert_eq!(inode("socket:[17]"), Some(17));
        for target in ["pipe:[17]", "socket:[x]", "/dev/null", "socket:[17"] {
            assert_eq!(inode(target), None, "{target}");
        }
    }
}
