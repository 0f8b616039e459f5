//! Patterns of network namespaces' names, as glob(7) has them.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// As in a shell: `*` matches no leading dot.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A pattern of files in one directory, each of which is a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsPattern {
    directory: PathBuf,
    names: Pattern,
}

impl NetnsPattern {
    /// Parses `name` as a pattern, which has `?`, `*` or `[...]`. Returns `None` for an exact name
    /// or path. `default` is the directory of names without a slash.
    ///
    /// # Errors
    ///
    /// The mistake in the pattern.
    pub fn parse(name: &str, default: &Path) -> Result<Option<Self>, String> {
        if !name.contains(['*', '?', '[']) {
            return Ok(None);
        }
        let (directory, files) = match name.rsplit_once('/') {
            Some(("", files)) => (Path::new("/"), files),
            Some((directory, files)) => (Path::new(directory), files),
            None => (default, name),
        };
        if directory.to_string_lossy().contains(['*', '?', '[']) {
            return Err(format!(
                "{name}: a pattern may stand in the last component alone: write a section for each directory"
            ));
        }
        if !directory.is_absolute() {
            return Err(format!(
                "{name}: the directory of a pattern has to be absolute, as in {}/cni-*",
                default.display()
            ));
        }
        if files.contains(['\\', '{', '}']) {
            return Err(format!(
                "{name}: a pattern has ?, * and [...] alone: write [{{] for a brace, and a section for each alternative"
            ));
        }
        let pattern = Pattern::new(files)
            .map_err(|error| format!("{name}: no pattern as in glob(7): {}", error.msg))?;
        Ok(Some(Self {
            directory: directory.to_owned(),
            names: pattern,
        }))
    }

    /// The directory whose files are meant.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of this name in the directory is meant.
    pub fn matches(&self, name: &str) -> bool {
        !name.contains('/') && self.names.matches_with(name, OPTIONS)
    }

    /// A file at this path is meant.
    pub fn matches_path(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        // The paths of a directory's files have no `..` and no double slash.
        name.is_some_and(|name| self.directory.join(name) == path && self.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Option<NetnsPattern>, String> {
        NetnsPattern::parse(name, Path::new("/run/netns"))
    }

    #[test]
    fn names_without_special_characters_are_exact() {
        for name in [
            "blue",
            "/run/netns/blue",
            "/proc/7/ns/net",
            "a{b}",
            "a\\b",
            "a]",
        ] {
            assert_eq!(parse(name), Ok(None), "{name}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        let all = ["cni-1", "cni-", "cni-ab", "xcni-1", ".cni", "CNI-1"];
        for (pattern, expected) in [
            ("cni-*", &["cni-1", "cni-", "cni-ab"][..]),
            ("cni-?", &["cni-1"]),
            ("cni-[0-9]", &["cni-1"]),
            ("cni-[!0-9]*", &["cni-ab"]),
            ("*", &["cni-1", "cni-", "cni-ab", "xcni-1", "CNI-1"]),
            ("/var/run/netns/cni-[a]*", &["cni-ab"]),
            ("[*]", &[]),
        ] {
            let parsed = parse(pattern).unwrap().unwrap();
            let matched: Vec<_> = all
                .into_iter()
                .filter(|name| parsed.matches(name))
                .collect();
            assert_eq!(matched, expected, "{pattern}");
        }
    }

    #[test]
    fn only_files_of_the_directory_are_meant() {
        let pattern = parse("cni-*").unwrap().unwrap();
        assert_eq!(pattern.directory(), Path::new("/run/netns"));
        for (path, expected) in [
            ("/run/netns/cni-1", true),
            ("/run/netns/other", false),
            ("/run/netns/sub/cni-1", false),
            ("/run/cni-1", false),
            ("/run/netns/../netns/cni-1", false),
            ("/run/netns/cni-1/..", false),
            ("cni-1", false),
        ] {
            assert_eq!(pattern.matches_path(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (name, part) in [
            ("/run/*/net", "last component alone"),
            ("run/cni-*", "has to be absolute"),
            ("cni-[", "glob(7)"),
            ("cni-**", "glob(7)"),
            ("cni-{a,b}*", "[...] alone"),
            ("cni-\\*", "[...] alone"),
        ] {
            let error = parse(name).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
