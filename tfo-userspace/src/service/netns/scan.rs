//! The network namespaces that exist of those in the configuration, and those that the service
//! takes.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    config::NamespaceConfig,
    kernel::{
        netns::{self, NetnsError, NetnsId},
        test_hook::test_hook,
    },
    model::NetnsPattern,
    service::{error::StartError, worker::OWN_NAMESPACE},
};

/// Namespaces by patterns that the service takes: each has a process, and maps of some megabytes.
const MAX_MATCHED: usize = 256;

/// [`MAX_MATCHED`], or what a test sets.
pub(super) fn max_matched() -> usize {
    test_hook!("TFO_TEST_MAX_MATCHED").unwrap_or(MAX_MATCHED)
}

/// A namespace that is to have a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name in logs and metrics, and for `--netns`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The section's `name`.
    pub(super) section: String,
    /// The id of the namespace; `None` where this process may not know it (below `/proc`).
    pub(super) id: Option<NetnsId>,
}

/// The result of one look.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Those to take: of exact names first, each namespace once.
    pub(super) found: Vec<Found>,
    /// Why an exact name is not among them.
    pub(super) absent: BTreeMap<String, String>,
    /// Files that a pattern matches and that are no namespaces, and directories that cannot be listed, with the reason.
    pub(super) ignored: BTreeMap<PathBuf, String>,
    /// Sections whose directory cannot be listed: what they matched may still be there.
    pub(super) unlisted: BTreeSet<String>,
    /// The names that a pattern matches and that are too many.
    pub(super) left_out: Vec<String>,
}

/// Looks for the namespaces of `sections`. `is_running` tells of a name whether it has a process: those stay where there are too
/// many.
pub(super) fn scan(sections: &[NamespaceConfig], is_running: impl Fn(&str) -> bool) -> Scan {
    scan_for(sections, max_matched(), is_running)
}

fn scan_for(sections: &[NamespaceConfig], max: usize, is_running: impl Fn(&str) -> bool) -> Scan {
    let mut look = Look {
        own: NetnsId::current().ok(),
        ..Look::default()
    };
    let has_own = sections.iter().any(|section| section.name.is_none());
    if let Some(own) = look.own.filter(|_| has_own) {
        look.ids.insert(own, OWN_NAMESPACE.to_owned());
    }
    for section in sections.iter().filter(|section| section.pattern.is_none()) {
        if let Some(name) = &section.name {
            look.exact(name);
        }
    }
    let exact = look.scan.found.len();
    for section in sections {
        if let Some((pattern, name)) = section.pattern.as_ref().zip(section.name.as_ref()) {
            look.matched(pattern, name);
        }
    }
    let mut scan = look.scan;
    let mut matched = scan.found.split_off(exact);
    // Stable: in the order of sections and names.
    matched.sort_by_key(|found| !is_running(&found.name));
    let over = matched.split_off(matched.len().min(max));
    scan.left_out = over.into_iter().map(|found| found.name).collect();
    scan.found.append(&mut matched);
    scan
}

/// The file does not exist, or its directory is a file, or links lead in a circle.
fn is_absent(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::ELOOP)
}

#[derive(Default)]
struct Look {
    scan: Scan,
    /// This process's namespace; `None` without procfs.
    own: Option<NetnsId>,
    /// The paths that were looked at.
    paths: BTreeSet<PathBuf>,
    /// The namespaces that were found, and under which name.
    ids: BTreeMap<NetnsId, String>,
}

impl Look {
    /// As [`NetnsId::at`].
    fn id_at(&self, path: &Path) -> io::Result<Option<NetnsId>> {
        let unknown = || io::Error::other("no procfs");
        self.own.ok_or_else(unknown)?.at(path)
    }

    fn exact(&mut self, name: &str) {
        let path = netns::path(name);
        // Also where there is none: the exact section wins.
        self.paths.insert(path.clone());
        match self.identify(name, &path) {
            Ok(id) => self.push(name.to_owned(), path, name, id),
            Err(error) => {
                self.scan.absent.insert(name.to_owned(), error.to_string());
            }
        }
    }

    /// Returns the id of the namespace with this exact name.
    fn identify(&mut self, name: &str, path: &Path) -> Result<Option<NetnsId>, StartError> {
        let id = match self.id_at(path) {
            Ok(Some(id)) => id,
            Ok(None) => {
                let (name, path) = (name.to_owned(), path.to_owned());
                return Err(NetnsError::Other { name, path }.into());
            }
            Err(error) if is_absent(&error) => {
                return Err(NetnsError::new(name, path, error).into());
            }
            // The helper may be allowed to.
            Err(_) => return Ok(None),
        };
        match self.ids.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(name.to_owned());
                Ok(Some(id))
            }
            Entry::Occupied(other) => Err(StartError::SameNamespace {
                name: name.to_owned(),
                other: other.get().clone(),
            }),
        }
    }

    /// The namespaces that a pattern matches, in the order of their names.
    fn matched(&mut self, pattern: &NetnsPattern, section: &str) {
        let directory = pattern.directory();
        let mut names: Vec<String> = match fs::read_dir(directory) {
            Ok(entries) => {
                let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                names.filter(|name| pattern.matches(name)).collect()
            }
            // `ip netns add` makes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let reason = format!(
                    "network namespaces {section}: cannot list {}: {error}",
                    directory.display()
                );
                self.scan.ignored.insert(directory.to_owned(), reason);
                self.scan.unlisted.insert(section.to_owned());
                return;
            }
        };
        names.sort_unstable();
        for file in names {
            let path = directory.join(&file);
            if !self.paths.insert(path.clone()) {
                continue;
            }
            let name = if directory == Path::new(netns::NAMED) {
                file
            } else {
                path.to_string_lossy().into_owned()
            };
            let id = match self.id_at(&path) {
                Ok(Some(id)) => Some(id),
                // It went meanwhile, or is a symbolic link to nowhere.
                Err(error) if is_absent(&error) => continue,
                // The helper may be allowed to.
                Err(_) => None,
                // Among them one that `ip netns add` has not mounted yet.
                Ok(None) => {
                    let reason = format!("{}: no network namespace: left alone", path.display());
                    self.scan.ignored.insert(path, reason);
                    continue;
                }
            };
            if let Some(id) = id {
                match self.ids.entry(id) {
                    Entry::Vacant(entry) => drop(entry.insert(name.clone())),
                    // Another name of one that is taken already.
                    Entry::Occupied(_) => continue,
                }
            }
            self.push(name, path, section, id);
        }
    }

    fn push(&mut self, name: String, path: PathBuf, section: &str, id: Option<NetnsId>) {
        let section = section.to_owned();
        self.scan.found.push(Found {
            name,
            path,
            section,
            id,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Config;

    /// A directory for one test, removed afterwards.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let name = format!("tfo-t{}-scan-{test}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Makes a link to the namespace of this kind of this process: of network namespaces there is one alone.
        fn link(&self, name: &str, kind: &str) {
            symlink(format!("/proc/self/ns/{kind}"), self.0.join(name)).unwrap();
        }

        /// Sections with these names, in the directory.
        fn sections(&self, names: &[&str]) -> Vec<NamespaceConfig> {
            let section = |name: &&str| {
                let path = self.0.join(name);
                format!(
                    "[[namespace]]\nname = '{}'\ninterfaces = ['a']\n",
                    path.display()
                )
            };
            let text: String = names.iter().map(section).collect();
            let config = Config::parse(&text, None, &crate::config::Flags::default());
            config.unwrap().namespaces
        }

        fn name(&self, path: &Path) -> String {
            let path = path.strip_prefix(&self.0).unwrap();
            path.to_string_lossy().into_owned()
        }

        /// Returns the namespaces that were found: `FILE by SECTION`.
        fn found(&self, scan: &Scan) -> Vec<String> {
            let line = |found: &Found| {
                let section = self.name(Path::new(&found.section));
                format!("{} by {section}", self.name(&found.path))
            };
            scan.found.iter().map(line).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_exact_section_wins_and_then_the_first_pattern() {
        let directory = Directory::new("order");
        for (name, kind) in [("a1", "net"), ("a2", "uts"), ("b1", "mnt"), ("c", "ipc")] {
            directory.link(name, kind);
        }
        let sections = directory.sections(&["a*", "[ab]*", "a2"]);
        let scan = scan(&sections, |_| false);
        assert_eq!(
            directory.found(&scan),
            ["a2 by a2", "a1 by a*", "b1 by [ab]*"]
        );
        assert!(
            scan.absent.is_empty() && scan.ignored.is_empty(),
            "{scan:?}"
        );
    }

    #[test]
    fn one_namespace_of_two_names_is_found_once() {
        let directory = Directory::new("twice");
        directory.link("a1", "net");
        directory.link("a2", "net");
        let scan = |sections: &[&str]| scan(&directory.sections(sections), |_| false);
        assert_eq!(directory.found(&scan(&["a*"])), ["a1 by a*"]);
        assert_eq!(directory.found(&scan(&["a*", "a2"])), ["a2 by a2"]);
        let exact = scan(&["a1", "a2"]);
        assert_eq!(directory.found(&exact), ["a1 by a1"]);
        let reason = exact.absent.values().next().unwrap();
        assert!(reason.contains("is the same as"), "{reason}");
    }

    #[test]
    fn what_is_no_namespace_is_left_alone() {
        let directory = Directory::new("files");
        fs::write(directory.0.join("a1"), "").unwrap();
        fs::create_dir(directory.0.join("a2")).unwrap();
        symlink("/nowhere", directory.0.join("a3")).unwrap();
        directory.link("a4", "net");
        let scan = scan(&directory.sections(&["a*", "a1", "a9"]), |_| false);
        assert_eq!(directory.found(&scan), ["a4 by a*"]);
        let ignored: Vec<_> = scan
            .ignored
            .keys()
            .map(|path| directory.name(path))
            .collect();
        assert_eq!(ignored, ["a2"]);
        let absent: Vec<_> = scan.absent.values().map(String::as_str).collect();
        assert!(absent[0].contains("is no network namespace"), "{absent:?}");
        assert!(absent[1].contains("there is none at"), "{absent:?}");
    }

    #[test]
    fn of_too_many_those_stay_that_have_a_process() {
        let directory = Directory::new("many");
        for (name, kind) in [("a1", "net"), ("a2", "uts"), ("a3", "mnt"), ("b", "ipc")] {
            directory.link(name, kind);
        }
        let sections = directory.sections(&["a*", "b"]);
        let running = directory.0.join("a3").display().to_string();
        let scan = scan_for(&sections, 2, |name| name == running);
        assert_eq!(directory.found(&scan), ["b by b", "a3 by a*", "a1 by a*"]);
        assert_eq!(scan.left_out.len(), 1);
        assert!(scan.left_out[0].ends_with("a2"), "{scan:?}");
    }

    #[test]
    fn a_directory_that_does_not_exist_has_none() {
        let directory = Directory::new("none");
        let scan = scan(&directory.sections(&["sub/a*"]), |_| false);
        assert!(scan.found.is_empty() && scan.ignored.is_empty(), "{scan:?}");
    }
}
