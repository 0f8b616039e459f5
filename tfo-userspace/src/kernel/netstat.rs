//! The kernel's own Fast Open counters: the `TcpExt` rows of `/proc/net/netstat`.

use std::{fs, io};

use tfo_common::counters::Counter;

/// Of the calling thread's namespace; `/proc/net` would be the whole process's.
const PATH: &str = "/proc/thread-self/net/netstat";
const GROUP: &str = "TcpExt:";

/// Why the kernel's counters could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NetstatError {
    /// The file cannot be read.
    #[error("cannot read the kernel's counters from {PATH}: {0}")]
    Read(#[from] io::Error),
    /// It has no such row, or not a number there.
    #[error("{PATH} has no counter {0}: this kernel has no TCP Fast Open")]
    Missing(&'static str),
}

/// The kernel's value of every counter in [`Counter::MIRRORED`], in that order.
pub type KernelCounters = [u64; Counter::MIRRORED.len()];

/// Reads them for the calling thread's network namespace.
///
/// # Errors
///
/// [`NetstatError`] where the file or a counter is missing.
pub fn read() -> Result<KernelCounters, NetstatError> {
    parse(&fs::read_to_string(PATH)?)
}

/// Any of the `TcpExt` counters, by its name; `None` where this kernel has none of that name.
///
/// # Errors
///
/// [`NetstatError::Read`] where the file is missing.
pub fn counter(name: &str) -> Result<Option<u64>, NetstatError> {
    let text = fs::read_to_string(PATH)?;
    let value = rows(&text).find(|(own, _)| *own == name);
    Ok(value.and_then(|(_, value)| value.parse().ok()))
}

/// The file holds pairs of lines: names, then values, both behind the group's name.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(GROUP));
    let names = lines.next().unwrap_or_default().split_whitespace();
    names.zip(lines.next().unwrap_or_default().split_whitespace())
}

fn parse(text: &str) -> Result<KernelCounters, NetstatError> {
    let rows: Vec<_> = rows(text).collect();
    let mut counters = KernelCounters::default();
    for (value, counter) in counters.iter_mut().zip(Counter::MIRRORED) {
        *value = rows
            .iter()
            .find(|(name, _)| *name == counter.name())
            .and_then(|(_, value)| value.parse().ok())
            .ok_or(NetstatError::Missing(counter.name()))?;
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_by_name_not_by_place() {
        let text = "TcpExt: A TCPFastOpenPassiveFail TCPFastOpenPassive TCPFastOpenCookieReqd \
                    TCPFastOpenPassiveAltKey TCPFastOpenListenOverflow\nTcpExt: 9 1 2 3 4 5\nIpExt: A\nIpExt: 7\n";
        assert_eq!(parse(text).unwrap(), [3, 2, 1, 4, 5]);
    }

    #[test]
    fn a_missing_counter_is_named() {
        let error = parse("TcpExt: A\nTcpExt: 1\n").unwrap_err();
        assert!(error.to_string().contains("TCPFastOpenCookieReqd"));
    }

    #[test]
    fn this_kernel_has_them() {
        read().unwrap();
        assert!(counter("SyncookiesSent").unwrap().is_some());
        assert_eq!(counter("NoSuchCounter").unwrap(), None);
    }
}
