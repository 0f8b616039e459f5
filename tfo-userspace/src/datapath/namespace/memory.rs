//! Kernel memory of the maps.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use tfo_common::abi::{ONCE, POLICY_LIMITS, POLICY_LISTS, POLICY_RULES, SOURCE_MEMORY};

use super::current::Namespace;
use crate::datapath::{error::DatapathError, pins::found_maps};

/// Bytes of kernel memory by map, under the pin's name, summed over interfaces.
///
/// The kernel's figure, `memlock` in the map's fdinfo: from Linux 6.4 on the memory allocated now
/// (`map_mem_usage`), before that an estimate from the map's bounds. For `keys` it is the outer array's; the inner one
/// takes less than a page. A policy has its inner maps (`policy_…_in_force`) next to the outer ones.
pub type Memory = BTreeMap<String, u64>;

impl Namespace {
    /// Reads the memory of all pinned maps; empty where nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be opened.
    pub fn memory(&self) -> Result<Memory, DatapathError> {
        let mut memory = Memory::new();
        let policy = [
            POLICY_RULES,
            POLICY_LISTS,
            POLICY_LIMITS,
            ONCE,
            SOURCE_MEMORY,
        ];
        let policy = policy.map(|name| self.pins().in_force(name));
        let policy = policy.into_iter().filter(|path| path.exists());
        for path in self.pins().maps()?.into_iter().chain(policy) {
            // Another process may detach meanwhile.
            let Some(bytes) = found_maps(memlock(&path))? else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            *memory.entry(name.into_owned()).or_default() += bytes;
        }
        Ok(memory)
    }
}

fn memlock(path: &Path) -> Result<u64, DatapathError> {
    let map = MapData::from_pin(path).map_err(DatapathError::map("of a pin"))?;
    let fdinfo = PathBuf::from(format!(
        "/proc/self/fdinfo/{}",
        map.fd().as_fd().as_raw_fd()
    ));
    let memlock = fs::read_to_string(&fdinfo)
        .and_then(|text| parse(&text).ok_or_else(|| io::Error::other("no line memlock")));
    memlock.map_err(DatapathError::io(&fdinfo))
}

fn parse(text: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memlock_is_a_line_of_fdinfo() {
        let text = "pos:\t0\nmap_type:\t2\nmax_entries:\t65536\nmemlock:\t524560\nmap_id:\t31\n";
        assert_eq!(parse(text), Some(524_560));
        assert_eq!(parse("pos:\t0\n"), None);
    }
}
