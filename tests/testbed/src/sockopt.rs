//! Socket options that no safe crate supports: Fast Open and others of tcp(7), and `SO_NETNS_COOKIE`.

use std::{
    io,
    mem::size_of,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

/// `TCP_SYN_RECV`, a value of `tcpi_state`.
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
    /// `tcpi_snd_wscale` (the peer's) in the lower four bits, `tcpi_rcv_wscale` in the upper four.
    pub(crate) scales: u8,
    flags: u8,
    timeouts: [u32; 2],
    pub(crate) segment_size: u32,
    until_path_mtu: [u32; 10],
    pub(crate) path_mtu: u32,
    until_advertised_size: [u32; 5],
    pub(crate) advertised_size: u32,
}

/// `TCP_FASTOPEN`: enables Fast Open on a listener, with a queue of this length.
pub(crate) fn set_fast_open(socket: &impl AsFd, queue: u32) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN, queue.cast_signed())
}

/// `TCP_FASTOPEN_KEY`: 16 bytes, or 32 with a backup key.
pub(crate) fn set_fast_open_keys(socket: &impl AsFd, keys: &[u8]) -> io::Result<()> {
    set_bytes(socket, libc::TCP_FASTOPEN_KEY, keys)
}

/// `TCP_FASTOPEN_NO_COOKIE`: the listener accepts data from any SYN.
pub(crate) fn set_fast_open_no_cookie(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN_NO_COOKIE, 1)
}

/// `TCP_FASTOPEN_CONNECT`: with a cookie, `connect` defers the SYN until there is data.
pub(crate) fn set_fast_open_connect(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN_CONNECT, 1)
}

/// `PACKET_VNET_HDR`: each frame starts with a `struct virtio_net_hdr`.
pub(crate) fn set_vnet_header(socket: &impl AsFd) -> io::Result<()> {
    /// From `linux/if_packet.h`.
    const VNET_HEADER: libc::c_int = 15;
    set_at(socket, libc::SOL_PACKET, VNET_HEADER, &1_i32.to_ne_bytes())
}

/// `TCP_DEFER_ACCEPT`: a client delays the ACK that completes the handshake until there is data.
pub(crate) fn set_defer_accept(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_DEFER_ACCEPT, 1)
}

/// `TCP_REPAIR`: the socket sends nothing, also when it is closed.
pub(crate) fn set_repair(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_REPAIR, 1)
}

/// `TCP_MD5SIG`: the listener requires signatures from `peer`.
pub(crate) fn set_signed(socket: &impl AsFd, peer: IpAddr) -> io::Result<()> {
    // `struct tcp_md5sig`: `sockaddr_storage` of the peer, key length at offset 130, key at offset 136.
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

/// `TCP_INFO`.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut info = TcpInfo::default();
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info)
}

/// `SO_NETNS_COOKIE`: a number of the socket's network namespace, unique since boot.
pub(crate) fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    get(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// A type for which any bit pattern is valid.
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
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`, and any bit pattern is valid for `T`.
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
    // SAFETY: the kernel reads `value.len()` bytes from `value`.
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
