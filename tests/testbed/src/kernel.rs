//! What the running kernel is, and its own count of TCP Fast Open: the `TcpExt` rows of `/proc/net/netstat`.
//!
//! It is read here once more, apart from the reader in `tfo`, so that the two can be held against
//! each other.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail};
use aya::util::KernelVersion;

use crate::netns::Netns;

/// `/proc/net` is the thread group leader's; this is the reading thread's.
const NETSTAT: &str = "/proc/thread-self/net/netstat";

/// Whether the running kernel is older than that release of Linux.
///
/// # Errors
///
/// Where it does not tell its version.
pub fn is_before(major: u8, minor: u8) -> Result<bool> {
    Ok(KernelVersion::current()? < KernelVersion::new(major, minor, 0))
}

/// Says what a feature comes to on the running kernel. `cargo xtask vm` makes its table of such lines.
pub fn feature(name: &str, what: &str) {
    println!("tfo: feature: {name}: {what}");
}

/// The values of the `TcpExt` rows, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpExt(BTreeMap<String, u64>);

impl TcpExt {
    /// What the namespace's kernel has counted so far.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is not as expected.
    pub fn read(netns: &Netns) -> Result<Self> {
        Self::parse(&netns.read(Path::new(NETSTAT))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("TcpExt: "));
        let (Some(names), Some(values)) = (rows.next(), rows.next()) else {
            bail!("no TcpExt rows in {NETSTAT}");
        };
        let names = names.split_whitespace();
        let mut values = values.split_whitespace();
        names
            .map(|name| {
                let value = values.next().context("a name without a value")?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect::<Result<_>>()
            .map(Self)
            .with_context(|| format!("cannot read the TcpExt rows of {NETSTAT}"))
    }

    /// One value; 0 where this kernel has no such row.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How much every value grew since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let growth =
            |(name, value): (&String, &u64)| (name.clone(), value.wrapping_sub(before.get(name)));
        Self(self.0.iter().map(growth).collect())
    }

    /// The names and values that are not 0.
    pub fn nonzero(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .filter(|(_, value)| **value != 0)
            .map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_with_their_values() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: A C\nIpExt: 5 6\n";
        let before = TcpExt::parse(text).unwrap();
        assert_eq!(
            (before.get("A"), before.get("B"), before.get("C")),
            (1, 2, 0)
        );
        let after = TcpExt::parse("TcpExt: A B\nTcpExt: 1 7\n").unwrap();
        assert_eq!(
            after.since(&before).nonzero().collect::<Vec<_>>(),
            [("B", 5)]
        );
        assert!(TcpExt::parse("TcpExt: A B\nTcpExt: 1\n").is_err());
        assert!(TcpExt::parse("").is_err());
    }
}
