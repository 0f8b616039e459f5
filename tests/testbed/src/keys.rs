//! Cookie keys in tests: files that hold them, and the cookies that they make.

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

/// Where the kernel shows its keys.
pub const SYSCTL: &str = "net.ipv4.tcp_fastopen_key";

/// A key that no kernel makes by itself.
pub const COUNTING: &str = "00112233-44556677-8899aabb-ccddeeff";

/// Another one.
pub const OTHER: &str = "a1b2c3d4-00000000-00000001-deadbeef";

/// The keys in a kernel's text, primary first.
///
/// This reads by itself what `tfo` reads, too, so that a mistake there shows.
///
/// # Errors
///
/// Where it is not the kernel's text.
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

/// The keys that a namespace's kernel holds now, primary first.
///
/// # Errors
///
/// Where they cannot be read.
pub fn of_kernel(netns: &Netns) -> Result<Vec<Key>> {
    parse(&netns.sysctl(SYSCTL)?)
}

/// The cookie that a server with `key` hands to `client`.
///
/// # Panics
///
/// Where the addresses are of two families.
pub fn cookie(key: &Key, client: IpAddr, server: IpAddr) -> [u8; Cookie::LEN] {
    let addresses = match (client, server) {
        (IpAddr::V4(client), IpAddr::V4(server)) => Addresses::v4(client.octets(), server.octets()),
        (IpAddr::V6(client), IpAddr::V6(server)) => Addresses::v6(client.octets(), server.octets()),
        _ => panic!("no packet goes from {client} to {server}"),
    };
    key.cookie(&addresses).to_bytes()
}

/// Makes sure that the client's kernel has the cookie of `key` for the server.
///
/// # Errors
///
/// Where it has another one or none.
pub fn ensure_cached(pair: &Pair, family: Family, key: &Key) -> Result<()> {
    let cached = pair.cached_cookie(family)?;
    let expected = cookie(key, family.client(), family.server());
    ensure!(
        cached == Some(expected),
        "the client holds {cached:02x?}, the server's key makes {expected:02x?}"
    );
    Ok(())
}

/// A file that holds keys, readable by its owner alone. Removed on drop.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// A file with this text.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
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

    /// Puts another file with this text in its place, by rename.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn replace(&self, text: &str) -> Result<()> {
        let next = Self::new(text)?;
        fs::rename(&next.path, &self.path).context("cannot rename")
    }

    /// Its path, as an argument.
    ///
    /// # Panics
    ///
    /// Where the directory for temporary files has a name that is no text.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path that is text")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}
