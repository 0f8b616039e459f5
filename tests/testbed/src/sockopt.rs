//! The socket options that no safe crate has: those of tcp(7) about Fast Open, and the namespace's number.

use std::{
    io,
    mem::size_of,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

/// `tcpi_state` of a connection whose handshake has not ended, on the server's side.
pub(crate) const SYN_RECV: u8 = 3;

/// `TCPI_OPT_SYN_DATA` of `tcpi_options`: the SYN-ACK acknowledged data in the SYN.
pub(crate) const OPTION_SYN_DATA: u8 = 0x20;

/// `TCPI_OPT_TIMESTAMPS`, `TCPI_OPT_SACK`, `TCPI_OPT_WSCALE`, `TCPI_OPT_ECN`.
pub(crate) const OPTIONS_AGREED: [u8; 4] = [1, 2, 4, 8];

/// The start of `struct tcp_info`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct TcpInfo {
    pub(crate) state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    pub(crate) options: u8,
    /// The peer's in the lower four bits, ours in the upper ones.
    pub(crate) scales: u8,
    flags: u8,
    timeouts: [u32; 2],
    pub(crate) segment_size: u32,
    until_path_mtu: [u32; 10],
    pub(crate) path_mtu: u32,
    until_advertised_size: [u32; 5],
    pub(crate) advertised_size: u32,
}

/// Turns Fast Open on for a listener, with a queue of this length.
pub(crate) fn set_fast_open(socket: &impl AsFd, queue: u32) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN, queue.cast_signed())
}

/// Gives a listener cookie keys of its own: 16 bytes, or 32 with a backup key.
pub(crate) fn set_fast_open_keys(socket: &impl AsFd, keys: &[u8]) -> io::Result<()> {
    set_bytes(socket, libc::TCP_FASTOPEN_KEY, keys)
}

/// Makes a listener take data from any SYN.
pub(crate) fn set_fast_open_no_cookie(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN_NO_COOKIE, 1)
}

/// Makes `connect` wait for the first data, and take it into the SYN.
pub(crate) fn set_fast_open_connect(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN_CONNECT, 1)
}

/// Has a packet socket take a `virtio_net_hdr` before each frame: packet(7).
pub(crate) fn set_vnet_header(socket: &impl AsFd) -> io::Result<()> {
    /// `PACKET_VNET_HDR` of `linux/if_packet.h`.
    const VNET_HEADER: libc::c_int = 15;
    set_at(socket, libc::SOL_PACKET, VNET_HEADER, &1_i32.to_ne_bytes())
}

/// Holds the ACK that ends a client's handshake back until there is data for it.
pub(crate) fn set_defer_accept(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_DEFER_ACCEPT, 1)
}

/// Has a listener expect signatures of `peer`: `TCP_MD5SIG`.
pub(crate) fn set_signed(socket: &impl AsFd, peer: IpAddr) -> io::Result<()> {
    // `struct tcp_md5sig`: the peer as a `sockaddr_storage`, the key's length at 130, the key at 136.
    let mut bytes = [0; 216];
    let family = match peer {
        IpAddr::V4(peer) => {
            bytes[4..8].copy_from_slice(&peer.octets());
            libc::AF_INET as libc::sa_family_t
        }
        IpAddr::V6(peer) => {
            bytes[8..24].copy_from_slice(&peer.octets());
            libc::AF_INET6 as libc::sa_family_t
        }
    };
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[130..132].copy_from_slice(&4_u16.to_ne_bytes());
    bytes[136..140].copy_from_slice(b"pass");
    set_bytes(socket, libc::TCP_MD5SIG, &bytes)
}

/// What the kernel says of a connection.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut info = TcpInfo::default();
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info)
}

/// A number that the socket's network namespace has, and no other since the machine started.
pub(crate) fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    get(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// A type that any bytes are a value of, padding apart.
trait Plain {}
impl Plain for TcpInfo {}
impl Plain for u64 {}

fn get<T: Plain>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has as many, any of which are
    // a value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    done(result)
}

fn set(socket: &impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    set_bytes(socket, option, &value.to_ne_bytes())
}

fn set_bytes(socket: &impl AsFd, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    set_at(socket, libc::IPPROTO_TCP, option, value)
}

fn set_at(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `value` has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    done(result)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
