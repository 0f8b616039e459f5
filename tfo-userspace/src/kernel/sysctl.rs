//! The sysctls of TCP Fast Open, in the calling thread's network namespace.

use std::{
    fs,
    io::{self, Write as _},
};

use tfo_common::socket::{NO_COOKIE, SERVER};
use zeroize::Zeroizing;

use crate::model::{KeyPair, KeyTextError};

const MODE: &str = "/proc/sys/net/ipv4/tcp_fastopen";
const KEY: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";
const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";

/// Why a sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// It does not hold what the kernel's documentation says.
    #[error("{path} holds {text:?}, not a number")]
    Number {
        /// The file.
        path: &'static str,
        /// What it holds.
        text: String,
    },
    /// It does not hold a key.
    #[error("{KEY}: {0}")]
    Key(#[from] KeyTextError),
}

/// What `net.ipv4.tcp_fastopen` lets the host do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Mode {
    /// Listeners take Fast Open.
    pub const fn server(self) -> bool {
        self.0 & SERVER != 0
    }

    /// The warning for a host whose listeners have Fast Open turned off, with the remedy; `None` where it is on.
    pub fn server_off_hint(self) -> Option<String> {
        let value = self.0;
        let remedy = value | SERVER;
        (!self.server()).then(|| {
            format!(
                "TCP Fast Open is off for listeners here (net.ipv4.tcp_fastopen = {value}): \
                 sysctl -w net.ipv4.tcp_fastopen={remedy}"
            )
        })
    }

    /// Listeners take data from any SYN, without a cookie: also from a source that is not its sender.
    pub const fn no_cookie(self) -> bool {
        self.server() && self.0 & NO_COOKIE != 0
    }
}

/// Reads `net.ipv4.tcp_fastopen`.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read.
pub fn mode() -> Result<Mode, SysctlError> {
    number(MODE).map(Mode)
}

/// Reads `net.ipv4.tcp_syncookies`: 0 for never, 1 while a SYN queue is full, 2 for always.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read.
pub fn syn_cookies() -> Result<u32, SysctlError> {
    number(SYN_COOKIES)
}

fn number(path: &'static str) -> Result<u32, SysctlError> {
    let text = fs::read_to_string(path).map_err(|source| SysctlError::Read { path, source })?;
    let number = text.trim().parse();
    number.map_err(|_| SysctlError::Number { path, text })
}

/// Reads `net.ipv4.tcp_fastopen_key`; `None` where it is all zeros, which means that the kernel has
/// no key yet.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read: it needs root.
pub fn key() -> Result<Option<KeyPair>, SysctlError> {
    let text = fs::read_to_string(KEY).map_err(|source| SysctlError::Read { path: KEY, source })?;
    let pair = KeyPair::parse(&Zeroizing::new(text))?;
    Ok((!pair.is_zero()).then_some(pair))
}

/// Writes `net.ipv4.tcp_fastopen_key`. It is one write(2): the kernel takes both keys at once, or
/// neither.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be written. The old keys are then still in force.
pub fn set_key(pair: &KeyPair) -> Result<(), SysctlError> {
    let text = pair.to_text();
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).open(KEY)?;
        let written = file.write(text.as_bytes())?;
        if written == text.len() {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::WriteZero))
        }
    };
    write().map_err(|source| SysctlError::Write { path: KEY, source })
}
