//! The kernel's own Fast Open counters: the `TcpExt` rows of `/proc/net/netstat`.

use std::{collections::BTreeMap, fs, io};

use tfo_common::counters::Counter;

/// The calling thread's namespace; `/proc/net` is that of the process's main thread.
const PATH: &str = "/proc/thread-self/net/netstat";
const GROUP: &str = "TcpExt:";

/// The kernel's counters could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NetstatError {
    /// The file is not readable.
    #[error("cannot read the kernel's counters from {PATH}: {0}{remedy}", remedy = remedy(.0))]
    Read(#[from] io::Error),
    /// No such counter, or not a number.
    #[error("{PATH} has no counter {0}: this kernel has no TCP Fast Open")]
    Missing(&'static str),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": mount /proc (`mount -t proc proc /proc`)",
        _ => "",
    }
}

/// The kernel's values of the counters in [`Counter::MIRRORED`], in that order.
pub type KernelCounters = [u64; Counter::MIRRORED.len()];

/// The counters of `TcpExt` by name, read at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpExt(BTreeMap<String, u64>);

impl TcpExt {
    /// Reads the counters of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`NetstatError::Read`].
    pub fn read() -> Result<Self, NetstatError> {
        Ok(Self::parse(&fs::read_to_string(PATH)?))
    }

    /// The file has pairs of lines: names, then values, each after the group's name.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(GROUP));
        let names = lines.next().unwrap_or_default().split_whitespace();
        let values = lines.next().unwrap_or_default().split_whitespace();
        let rows = names.zip(values);
        Self(
            rows.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }

    /// A counter's value; `None` where this kernel has none of this name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// The counters that the data path mirrors.
    ///
    /// # Errors
    ///
    /// [`NetstatError::Missing`].
    pub fn mirrored(&self) -> Result<KernelCounters, NetstatError> {
        let mut counters = KernelCounters::default();
        for (value, counter) in counters.iter_mut().zip(Counter::MIRRORED) {
            let name = counter.name();
            *value = self.get(name).ok_or(NetstatError::Missing(name))?;
        }
        Ok(counters)
    }
}

/// Reads the counters that the data path mirrors, of the calling thread's network namespace.
///
/// # Errors
///
/// [`NetstatError`] where the file or a counter is missing.
pub fn read() -> Result<KernelCounters, NetstatError> {
    TcpExt::read()?.mirrored()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_by_name_not_by_place() {
        let text = "TcpExt: A TCPFastOpenPassiveFail TCPFastOpenPassive TCPFastOpenCookieReqd \
                    TCPFastOpenPassiveAltKey TCPFastOpenListenOverflow\nTcpExt: 9 1 2 3 4 5\nIpExt: A\nIpExt: 7\n";
        assert_eq!(TcpExt::parse(text).mirrored().unwrap(), [3, 2, 1, 4, 5]);
    }

    #[test]
    fn a_missing_counter_is_named() {
        let error = TcpExt::parse("TcpExt: A\nTcpExt: 1\n")
            .mirrored()
            .unwrap_err();
        assert!(error.to_string().contains("TCPFastOpenCookieReqd"));
    }

    #[test]
    fn this_kernel_has_them() {
        read().unwrap();
        let all = TcpExt::read().unwrap();
        assert!(all.get("SyncookiesSent").is_some());
        assert_eq!(all.get("NoSuchCounter"), None);
    }
}
