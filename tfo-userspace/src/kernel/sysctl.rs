//! The sysctls of TCP Fast Open, in the calling thread's network namespace.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketType, socket};
use tfo_common::{
    classify::socket::{NO_COOKIE, SERVER},
    wire::options::negotiated::HostOptions,
};
use zeroize::Zeroizing;

use super::fast_open;
use crate::model::{KeyPair, KeyTextError};

/// `net.ipv4.tcp_fastopen`.
pub const TCP_FASTOPEN: Sysctl = Sysctl {
    name: "net.ipv4.tcp_fastopen",
    path: MODE,
};
/// `net.ipv4.tcp_syncookies`.
pub const TCP_SYNCOOKIES: Sysctl = Sysctl {
    name: "net.ipv4.tcp_syncookies",
    path: SYN_COOKIES,
};
/// `net.ipv4.tcp_fastopen_blackhole_timeout_sec`: how long a client does without Fast Open after connections that seemed to be
/// stopped by a middlebox; 0 for not at all.
pub const TCP_FASTOPEN_BLACKHOLE_TIMEOUT: Sysctl = Sysctl {
    name: "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
    path: "/proc/sys/net/ipv4/tcp_fastopen_blackhole_timeout_sec",
};
/// `net.core.bpf_jit_enable`, which only the initial network namespace has.
pub const BPF_JIT_ENABLE: Sysctl = Sysctl {
    name: "net.core.bpf_jit_enable",
    path: "/proc/sys/net/core/bpf_jit_enable",
};

const MODE: &str = "/proc/sys/net/ipv4/tcp_fastopen";
const KEY: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";
/// Bytes of the longest text in [`KEY`]: two keys of 35 digits and hyphens, a comma and a newline; and one more.
const KEY_TEXT_LEN: usize = 2 * 35 + 3;
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";

/// Bit 0x400 of `net.ipv4.tcp_fastopen`: every listener has Fast Open, whether its application asked for it or not.
pub const ALL_LISTENERS: u32 = 0x400;

/// A sysctl that is a number.
#[derive(Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// As sysctl(8) takes it.
    pub name: &'static str,
    path: &'static str,
}

/// As its name.
impl serde::Serialize for Sysctl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl Sysctl {
    /// Its value.
    ///
    /// # Errors
    ///
    /// [`SysctlError`] where it cannot be read.
    pub fn get(&self) -> Result<u32, SysctlError> {
        number(self.path)
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// [`SysctlError`] where it cannot be written.
    pub fn set(&self, value: u32) -> Result<(), SysctlError> {
        let written = fs::write(self.path, value.to_string());
        written.map_err(|source| SysctlError::Write {
            path: self.path,
            source,
        })
    }
}

/// A sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Not readable.
    #[error("cannot read {path}: {source}{remedy}", remedy = read_remedy(source))]
    Read {
        /// The file.
        path: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Not writable.
    #[error("cannot write {path}: {source}: {remedy}", remedy = write_remedy(source))]
    Write {
        /// The file.
        path: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Not a number.
    #[error("{path} holds {text:?}, not a number")]
    Number {
        /// The file.
        path: &'static str,
        /// Its content.
        text: String,
    },
    /// Not a key pair.
    #[error("{KEY}: {0}")]
    Key(#[from] KeyTextError),
}

/// Returns the remedy for a sysctl that cannot be read; empty where there is none.
fn read_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ": mount /proc (`mount -t proc proc /proc`), or use a kernel with TCP Fast Open"
        }
        _ => "",
    }
}

/// Returns the remedy for a sysctl that cannot be written.
fn write_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "/proc/sys is mounted read-only: mount it writable (a container runs privileged for that), or have keys come \
             from the host with --key-source kernel, which writes none"
        }
        io::ErrorKind::PermissionDenied => {
            "run tfo as root, in the user namespace that the network namespace belongs to"
        }
        _ => "check that /proc is mounted",
    }
}

/// The bits of `net.ipv4.tcp_fastopen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Mode {
    /// Bit 0x2: listeners take Fast Open.
    pub const fn server(self) -> bool {
        self.0 & SERVER != 0
    }

    /// As it is, with Fast Open for the listeners that ask for it: bits that have no effect without 0x2 do not come into force
    /// with it.
    #[must_use]
    pub const fn with_server(self) -> Self {
        if self.server() {
            self
        } else {
            Self(self.0 & !(NO_COOKIE | ALL_LISTENERS) | SERVER)
        }
    }

    /// The warning for a host whose listeners have Fast Open turned off, with the remedy; `None` where it is on.
    pub fn server_off_hint(self) -> Option<String> {
        let value = self.0;
        let Self(remedy) = self.with_server();
        (!self.server()).then(|| {
            format!(
                "TCP Fast Open is off for listeners here (net.ipv4.tcp_fastopen = {value}): \
                 sysctl -w net.ipv4.tcp_fastopen={remedy}"
            )
        })
    }

    /// Bits 0x2 and 0x200: listeners take data from any SYN without a cookie, also from a spoofed source.
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
    TCP_FASTOPEN.get().map(Mode)
}

/// Reads `net.core.somaxconn`: the longest accept queue, and the longest Fast Open queue.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read.
pub fn somaxconn() -> Result<u32, SysctlError> {
    number(SOMAXCONN)
}

/// Reads `net.ipv4.tcp_syncookies`: 0 never, 1 while a SYN queue is full, 2 always.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read.
pub fn syn_cookies() -> Result<u32, SysctlError> {
    TCP_SYNCOOKIES.get()
}

/// The TCP options that the calling thread's namespace agrees to; all of them where it does not say.
pub fn handshake_options() -> HostOptions {
    let is_on = |path| number(path).map_or(true, |value| value != 0);
    HostOptions {
        window_scaling: is_on("/proc/sys/net/ipv4/tcp_window_scaling"),
        sack: is_on("/proc/sys/net/ipv4/tcp_sack"),
        ecn: is_on("/proc/sys/net/ipv4/tcp_ecn"),
        timestamps: is_on("/proc/sys/net/ipv4/tcp_timestamps"),
    }
}

/// Some device of the calling thread's namespace drops IPv4 packets whose source it would reach by another one: `rp_filter`
/// is 1 there, or for all.
pub fn filters_sources() -> bool {
    let devices = fs::read_dir("/proc/sys/net/ipv4/conf")
        .into_iter()
        .flatten();
    devices.flatten().any(|device| {
        let value = fs::read_to_string(device.path().join("rp_filter"));
        // New devices take it from here; it decides nothing itself.
        device.file_name() != "default" && value.is_ok_and(|value| value.trim() == "1")
    })
}

/// The calling thread's namespace forwards packets of IPv4, or of IPv6; `true` where it does not say.
pub fn forwards(v4: bool) -> bool {
    let path = if v4 {
        "/proc/sys/net/ipv4/ip_forward"
    } else {
        "/proc/sys/net/ipv6/conf/all/forwarding"
    };
    number(path).map_or(true, |value| value != 0)
}

/// `forwarding` of the loopback device, of IPv4 and IPv6, and of all devices.
const OUTPUT_ROUTES: [[&str; 2]; 2] = [
    [
        "/proc/sys/net/ipv4/conf/lo/forwarding",
        "/proc/sys/net/ipv4/conf/all/forwarding",
    ],
    [
        "/proc/sys/net/ipv6/conf/lo/forwarding",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ],
];

/// Has the kernel answer or not answer `bpf_fib_lookup` for the loopback device, which looks up output routes: it does so
/// only where that device's `forwarding` is set. No packet from another host comes in by that device, so nothing is
/// forwarded by it. Where all devices forward, it stays set.
///
/// # Errors
///
/// The file, and the kernel's error.
pub fn show_output_routes(show: bool) -> Result<(), (&'static str, io::Error)> {
    for [path, all] in OUTPUT_ROUTES {
        let is_set = |path| fs::read_to_string(path).map(|text| text.trim() != "0");
        let set = match is_set(path) {
            // The kernel has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            set => set.map_err(|error| (path, error))?,
        };
        if set != show && (show || !is_set(all).unwrap_or(false)) {
            let kept = if show {
                KeptRoutes::keep()
            } else {
                KeptRoutes::default()
            };
            let written = fs::write(path, if show { "1" } else { "0" });
            drop(kept);
            written.map_err(|error| (path, error))?;
        }
    }
    Ok(())
}

/// Keeps the kernel from removing the routes that router advertisements made, as it does wherever an interface begins to
/// forward (`rt6_purge_dflt_routers`): it spares those of interfaces whose `accept_ra` is 2. As long as they do not forward
/// themselves, 2 means the same as 1.
#[derive(Default)]
struct KeptRoutes(Vec<PathBuf>);

impl KeptRoutes {
    /// Sets `accept_ra` of all interfaces that have 1 to 2, until the value is dropped.
    fn keep() -> Self {
        let interfaces = fs::read_dir("/proc/sys/net/ipv6/conf")
            .into_iter()
            .flatten();
        let files = interfaces.flatten().filter_map(|interface| {
            let name = interface.file_name();
            let shared = ["all", "default"].contains(&name.to_str()?);
            (!shared).then(|| interface.path().join("accept_ra"))
        });
        let is_one = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|it| it.trim() == "1");
        let raised = |file: &PathBuf| is_one(file) && fs::write(file, "2").is_ok();
        Self(files.filter(raised).collect())
    }
}

impl Drop for KeptRoutes {
    fn drop(&mut self) {
        for file in &self.0 {
            // The interface may be gone.
            let _ = fs::write(file, "1");
        }
    }
}

fn number(path: &'static str) -> Result<u32, SysctlError> {
    let text = fs::read_to_string(path).map_err(|source| SysctlError::Read { path, source })?;
    let number = text.trim().parse();
    number.map_err(|_| SysctlError::Number { path, text })
}

/// Reads `net.ipv4.tcp_fastopen_key`; `None` where it is all zeros: the kernel has no key yet.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be read, which takes root.
pub fn key() -> Result<Option<KeyPair>, SysctlError> {
    // Longer than two keys, and filled in place: a string that grows leaves copies in memory.
    let mut bytes = Zeroizing::new([0; KEY_TEXT_LEN]);
    let read = |bytes: &mut [u8]| fs::File::open(KEY)?.read(bytes);
    let len = read(&mut *bytes).map_err(|source| SysctlError::Read { path: KEY, source })?;
    // Text of the kernel's own: a byte that is not ASCII is in no group of digits.
    let text = str::from_utf8(&bytes[..len]).unwrap_or_default();
    let pair = KeyPair::parse(text)?;
    Ok((!pair.is_zero()).then_some(pair))
}

/// `net.ipv4.tcp_fastopen_key` can be opened for writing; nothing is written.
pub fn is_key_writable() -> bool {
    fs::OpenOptions::new().write(true).open(KEY).is_ok()
}

/// Has the kernel make a key where it has none, as its first listener with Fast Open does. Gives the pair in force;
/// `None` where the kernel made none.
///
/// # Errors
///
/// As [`key`].
pub fn create_key() -> Result<Option<KeyPair>, SysctlError> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None);
    if let Ok(socket) = &socket {
        // tcp_fastopen_init_key_once() in the kernel; the socket need not listen.
        let _ = fast_open::set_queue(socket, 1);
    }
    key()
}

/// Writes `net.ipv4.tcp_fastopen_key` in one write(2): the kernel takes both keys or neither.
///
/// # Errors
///
/// [`SysctlError`] where it cannot be written; the previous keys then stay in force.
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
