//! The listening sockets of the calling thread's network namespace with their Fast Open state, from an
//! `iter/tcp` program.

use std::{
    fmt,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use aya::{Btf, EbpfLoader, programs::Iter};
use tfo_common::{
    abi::{LISTENERS_PROGRAM, ListenerRecord, SOCKET_OFFSETS},
    classify::socket::{NO_COOKIE, SERVER},
};

use super::image::OBJECT;
use crate::{
    datapath::error::DatapathError,
    kernel::{
        link,
        types::{self, TypesError},
    },
    model::listener_name,
};

/// Why listeners could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// The kernel's types.
    #[error("cannot list listeners: {0}")]
    Types(#[from] TypesError),
    /// The program.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The kernel's types, for the program's loader.
    #[error("cannot list listeners: {0}")]
    Btf(#[from] aya::BtfError),
    /// Reading the iterator.
    #[error("cannot list listeners: {0}")]
    Read(#[from] io::Error),
}

/// Fast Open at a listener, in the order of `tcp_try_fastopen`'s checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastOpenState {
    /// Takes data from SYNs with a valid cookie.
    On,
    /// Takes data from any SYN, also from a spoofed source.
    WithoutCookie,
    /// The queue of pending Fast Open connections is full.
    QueueFull,
    /// `TCP_FASTOPEN` is not set, or 0.
    Off,
    /// `TCP_FASTOPEN` is set, but `net.ipv4.tcp_fastopen` lacks bit 0x2.
    OffByHost,
}

/// A device to which a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundDevice {
    /// Its index.
    pub index: u32,
    /// Its name; `None` where it is gone.
    pub name: Option<String>,
}

impl BoundDevice {
    /// `None` for index 0.
    fn of(index: u32) -> Option<Self> {
        (index != 0).then(|| Self {
            index,
            name: link::name_of(index),
        })
    }
}

/// The name, or the index of a device that is gone, as ss(8) writes it.
impl fmt::Display for BoundDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "if{}", self.index),
        }
    }
}

/// A listening socket.
#[derive(Clone, Debug)]
pub struct ListeningSocket {
    /// The local address.
    pub address: SocketAddr,
    /// The device to which it is bound (`SO_BINDTODEVICE`): it gets no SYN that comes in by another.
    pub device: Option<BoundDevice>,
    /// It is a listener of MPTCP.
    pub mptcp: bool,
    /// The owner's user id.
    pub uid: u32,
    /// `TCP_FASTOPEN`: the limit of pending Fast Open connections.
    pub limit: u32,
    /// Pending Fast Open connections.
    pub queue: u32,
    /// Number of keys of its own (`TCP_FASTOPEN_KEY`); 0 where it uses the host's.
    pub own_keys: u32,
    /// Connections waiting for accept(2).
    pub backlog: u32,
    /// The limit of [`Self::backlog`].
    pub max_backlog: u32,
    /// `TCP_FASTOPEN_NO_COOKIE` is set.
    pub no_cookie: bool,
    /// Fast Open at this listener.
    pub state: FastOpenState,
}

impl ListeningSocket {
    /// Address, device and port, as ss(8) writes them.
    pub fn name(&self) -> String {
        listener_name(self.address, self.device.as_ref())
    }
}

/// Lists the listening sockets by port, then address, then device.
///
/// # Errors
///
/// [`ListenersError`] where the kernel lacks a field or refuses the iterator.
pub fn listeners() -> Result<Vec<ListeningSocket>, ListenersError> {
    let offsets = types::offsets()?.sockets;
    let mut ebpf = EbpfLoader::new()
        .override_global(SOCKET_OFFSETS, &offsets, true)
        .load(OBJECT)
        .map_err(|error| DatapathError::Load(Box::new(error)))?;
    let program: &mut Iter = ebpf
        .program_mut(LISTENERS_PROGRAM)
        .ok_or(DatapathError::Missing(LISTENERS_PROGRAM))?
        .try_into()
        .map_err(DatapathError::from)?;
    program
        .load("tcp", &Btf::from_sys_fs()?)
        .map_err(DatapathError::from)?;
    let link = program.attach().map_err(DatapathError::from)?;
    let link = program.take_link(link).map_err(DatapathError::from)?;
    let mut bytes = Vec::new();
    link.into_file()
        .map_err(io::Error::other)?
        .read_to_end(&mut bytes)?;
    let (records, _) = bytes.as_chunks::<{ size_of::<ListenerRecord>() }>();
    let mut sockets: Vec<_> = records.iter().map(socket).collect();
    sockets.sort_by_cached_key(|socket| {
        let address = (socket.address.port(), socket.address.ip());
        (address, socket.device.clone())
    });
    Ok(sockets)
}

fn socket(bytes: &[u8; size_of::<ListenerRecord>()]) -> ListeningSocket {
    // SAFETY: the slice has the record's size, any bytes are a valid record, and the read may be unaligned.
    let record: ListenerRecord = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
    let [first, ..] = record.address;
    let ip = if i32::from(record.family) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::from(first.to_le_bytes()))
    } else {
        let mut octets = [0; 16];
        for (octets, word) in octets.chunks_mut(4).zip(record.address) {
            octets.copy_from_slice(&word.to_le_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    ListeningSocket {
        address: SocketAddr::new(ip, record.port),
        device: BoundDevice::of(record.device),
        mptcp: record.mptcp != 0,
        uid: record.uid,
        limit: record.max_qlen,
        queue: record.qlen,
        own_keys: record.keys,
        backlog: record.backlog,
        max_backlog: record.max_backlog,
        no_cookie: record.no_cookie != 0,
        state: state(&record),
    }
}

/// In the kernel's order: `tcp_try_fastopen`.
fn state(record: &ListenerRecord) -> FastOpenState {
    if record.max_qlen == 0 {
        FastOpenState::Off
    } else if record.fast_open & SERVER == 0 {
        FastOpenState::OffByHost
    } else if record.qlen >= record.max_qlen {
        FastOpenState::QueueFull
    } else if record.no_cookie != 0 || record.fast_open & NO_COOKIE != 0 {
        FastOpenState::WithoutCookie
    } else {
        FastOpenState::On
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_needs_the_host_a_queue_and_room_in_it() {
        let record = |fast_open, max_qlen, qlen, no_cookie| ListenerRecord {
            fast_open,
            max_qlen,
            qlen,
            no_cookie,
            ..ListenerRecord::default()
        };
        for (record, expected) in [
            (record(0x3, 16, 0, 0), FastOpenState::On),
            (record(0x3, 0, 0, 0), FastOpenState::Off),
            (record(0x1, 16, 0, 0), FastOpenState::OffByHost),
            (record(0x3, 16, 16, 0), FastOpenState::QueueFull),
            (record(0x203, 16, 0, 0), FastOpenState::WithoutCookie),
            (record(0x3, 16, 0, 1), FastOpenState::WithoutCookie),
        ] {
            assert_eq!(state(&record), expected);
        }
    }
}
