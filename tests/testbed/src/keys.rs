//! Cookie keys: the sysctl, key files, and cookies computed from keys.

use std::{
    env, fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    fastopen::{Cookie, Key},
    wire::addresses::Addresses,
};

use crate::{
    netns::Netns,
    veth::{Family, Pair},
};

/// The sysctl with the kernel's keys.
pub const SYSCTL: &str = "net.ipv4.tcp_fastopen_key";

/// A fixed key.
pub const COUNTING: &str = "00112233-44556677-8899aabb-ccddeeff";

/// A second fixed key.
pub const OTHER: &str = "a1b2c3d4-00000000-00000001-deadbeef";

/// Parses the format of [`SYSCTL`]: one or two keys, primary first. Shares no code with the parser of `tfo`.
///
/// # Errors
///
/// A key is not four groups of hexadecimal digits.
pub fn parse(text: &str) -> Result<Vec<Key>> {
    text.trim()
        .split(',')
        .map(|key| {
            let groups = key
                .split('-')
                .map(|group| u32::from_str_radix(group, 16))
                .collect::<Result<Vec<_>, _>>()
                .ok()
                .and_then(|groups| groups.try_into().ok())
                .context("not a key")?;
            Ok(Key::from_groups(groups))
        })
        .collect()
}

/// Reads the keys of a namespace, primary first.
///
/// # Errors
///
/// [`SYSCTL`] cannot be read or parsed.
pub fn of_kernel(netns: &Netns) -> Result<Vec<Key>> {
    parse(&netns.sysctl(SYSCTL)?)
}

/// The cookie that a server with `key` issues to `client`.
///
/// # Panics
///
/// The addresses differ in family.
pub fn cookie(key: &Key, client: IpAddr, server: IpAddr) -> [u8; Cookie::LEN] {
    let addresses = match (client, server) {
        (IpAddr::V4(client), IpAddr::V4(server)) => Addresses::v4(client.octets(), server.octets()),
        (IpAddr::V6(client), IpAddr::V6(server)) => Addresses::v6(client.octets(), server.octets()),
        _ => panic!("no packet goes from {client} to {server}"),
    };
    key.cookie(&addresses).to_bytes()
}

/// Checks that the client's kernel caches the cookie of `key` for the server.
///
/// # Errors
///
/// The client caches another cookie or none.
pub fn ensure_cached(pair: &Pair, family: Family, key: &Key) -> Result<()> {
    let cached = pair.cached_cookie(family)?;
    let expected = cookie(key, family.client(), family.server());
    ensure!(
        cached == Some(expected),
        "the client caches {cached:02x?}; the cookie of the server's key is {expected:02x?}"
    );
    Ok(())
}

/// A key file with mode 0600. Removed on drop.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Writes `text` to a new temporary file.
    ///
    /// # Errors
    ///
    /// The file cannot be created or written.
    pub fn new(text: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tfo-t{}-{count}.key", process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let this = Self { path };
        file.write_all(text.as_bytes())?;
        Ok(this)
    }

    /// Replaces the file atomically, by rename(2).
    ///
    /// # Errors
    ///
    /// The new file cannot be created, written or renamed.
    pub fn replace(&self, text: &str) -> Result<()> {
        let next = Self::new(text)?;
        fs::rename(&next.path, &self.path).context("cannot rename")
    }

    /// The path as an argument.
    ///
    /// # Panics
    ///
    /// The path is not UTF-8.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}
