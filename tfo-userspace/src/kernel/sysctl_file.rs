//! The file that keeps sysctls over the next boot: sysctl.d(5).

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The file of `tfo`. Files are read in the order of their names, so it comes after `99-sysctl.conf`, as Debian calls
/// `/etc/sysctl.conf` there.
pub const FILE: &str = "/etc/sysctl.d/99-tfo.conf";
const NAME: &str = "99-tfo.conf";
/// The directories that sysctl.d(5) reads, and the file that sysctl(8) reads after them.
const DIRECTORIES: [&str; 4] = [
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
];
const LAST: &str = "/etc/sysctl.conf";
const HEAD: &str = "# Written by `tfo doctor --fix --yes`.\n";

/// Sets values in [`FILE`]; other lines of it stay.
///
/// # Errors
///
/// It cannot be read or written.
pub fn keep(values: &[(&str, u32)]) -> io::Result<()> {
    let path = Path::new(FILE);
    let present = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
        text => text?,
    };
    fs::create_dir_all(DIRECTORIES[0])?;
    // A boot in between reads the old file or the new one; names that do not end in .conf are not read.
    let next = path.with_extension("conf.next");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o644);
    let mut file = options.open(&next)?;
    file.write_all(merged(&present, values).as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

/// Files that set a sysctl as well, and are read after [`FILE`].
pub fn read_later(sysctl: &str) -> Vec<PathBuf> {
    let directories = DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let files = directories.flatten().flatten().map(|entry| entry.path());
    let mut later: Vec<_> = files
        .filter(|path| {
            let is_read = path.extension().is_some_and(|it| it == "conf");
            is_read && path.file_name().is_some_and(|name| name > OsStr::new(NAME))
        })
        .collect();
    later.sort();
    later.push(LAST.into());
    later.retain(|path| fs::read_to_string(path).is_ok_and(|text| sets(&text, sysctl)));
    later
}

fn merged(present: &str, values: &[(&str, u32)]) -> String {
    let lines = present.lines();
    let others = lines.filter(|line| values.iter().all(|(name, _)| name_in(line) != Some(*name)));
    let mut text: String = others.flat_map(|line| [line, "\n"]).collect();
    for (name, value) in values {
        text += &format!("{name} = {value}\n");
    }
    text
}

fn sets(text: &str, sysctl: &str) -> bool {
    let names = text.lines().filter_map(name_in);
    // A slash stands for a dot, if it comes first.
    names
        .into_iter()
        .any(|name| name.replace('/', ".") == sysctl)
}

/// The sysctl that a line sets.
fn name_in(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    // An error of such a line is ignored.
    let name = name.strip_prefix('-').unwrap_or(name);
    (!name.starts_with(['#', ';'])).then_some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_replaces_its_line_alone() {
        let first = merged(HEAD, &[("net.ipv4.tcp_fastopen", 3)]);
        assert_eq!(first, format!("{HEAD}net.ipv4.tcp_fastopen = 3\n"));
        let both = merged(&first, &[("net.ipv4.tcp_syncookies", 1)]);
        assert_eq!(both, first.clone() + "net.ipv4.tcp_syncookies = 1\n");
        let again = merged(&both, &[("net.ipv4.tcp_fastopen", 7)]);
        let expected = format!("{HEAD}net.ipv4.tcp_syncookies = 1\nnet.ipv4.tcp_fastopen = 7\n");
        assert_eq!(again, expected);
    }

    #[test]
    fn lines_that_set_a_sysctl_are_known() {
        const NAME: &str = "net.ipv4.tcp_fastopen";
        for text in [
            "net.ipv4.tcp_fastopen=1",
            "a = 1\n net.ipv4.tcp_fastopen = 1\n",
            "-net.ipv4.tcp_fastopen = 1",
            "net/ipv4/tcp_fastopen = 1",
        ] {
            assert!(sets(text, NAME), "{text}");
        }
        for text in [
            "",
            "# net.ipv4.tcp_fastopen = 1",
            ";net.ipv4.tcp_fastopen=1",
            "net.ipv4.tcp_fastopen_key = 1",
            "net.ipv4.tcp_fastopen",
        ] {
            assert!(!sets(text, NAME), "{text}");
        }
    }
}
