//! Version of the running kernel, and its TCP Fast Open counters: the `TcpExt` rows of `/proc/net/netstat`.
//!
//! This parser shares no code with that of `tfo`, so that tests can compare the two.

use std::{collections::BTreeMap, env, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use aya::util::KernelVersion;

use crate::netns::Netns;

/// Shows the calling thread's namespace; `/proc/net` shows the thread group leader's.
const NETSTAT: &str = "/proc/thread-self/net/netstat";

/// `true` if the running kernel is older than Linux `major`.`minor`.
///
/// # Errors
///
/// The kernel's version cannot be read.
pub fn is_before(major: u8, minor: u8) -> Result<bool> {
    Ok(KernelVersion::current()? < KernelVersion::new(major, minor, 0))
}

/// `true` on a distribution's kernel, which lacks no device and no feature of its release: `TFO_STOCK_KERNEL` is set.
pub fn is_stock() -> bool {
    env::var_os("TFO_STOCK_KERNEL").is_some()
}

/// Prints the form of a feature on the running kernel. `cargo xtask vm` collects these lines in a table.
pub fn feature(name: &str, what: &str) {
    println!("tfo: feature: {name}: {what}");
}

/// Prints a feature that Linux has had since `since` (major, minor). `present` is the result of probing the running
/// kernel; `with` or `without` is printed accordingly.
///
/// # Errors
///
/// The running kernel is `since` or newer and lacks the feature, or is older and has it; or its version is unknown.
pub fn feature_since(
    name: &str,
    since: (u8, u8),
    present: bool,
    [with, without]: [&str; 2],
) -> Result<()> {
    let (major, minor) = since;
    let expected = !is_before(major, minor)?;
    ensure!(
        present || !expected,
        "{name}: missing on the running kernel, though Linux has it since {major}.{minor}"
    );
    ensure!(
        expected || !present,
        "{name}: found on the running kernel, which is older than {major}.{minor}"
    );
    feature(name, if present { with } else { without });
    Ok(())
}

/// Values of the `TcpExt` rows by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpExt(BTreeMap<String, u64>);

impl TcpExt {
    /// Reads the counters of a namespace.
    ///
    /// # Errors
    ///
    /// `/proc/thread-self/net/netstat` cannot be read or parsed.
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

    /// One value; 0 if this kernel has no such counter.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Increase of every value since `before`, modulo 2^64.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let growth =
            |(name, value): (&String, &u64)| (name.clone(), value.wrapping_sub(before.get(name)));
        Self(self.0.iter().map(growth).collect())
    }

    /// Names and values of all counters other than 0.
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
    fn a_feature_missing_on_a_newer_kernel_is_an_error() {
        // Linux 2.0 has it, and this kernel is newer; no kernel is 255.0 yet.
        let check = |since, present| feature_since("x", since, present, ["with", "without"]);
        assert!(check((2, 0), true).is_ok());
        assert!(check((255, 0), false).is_ok());
        let missing = check((2, 0), false).unwrap_err().to_string();
        assert!(missing.contains("missing"), "{missing}");
        let early = check((255, 0), true).unwrap_err().to_string();
        assert!(early.contains("older than 255.0"), "{early}");
    }

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
