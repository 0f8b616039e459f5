//! The listening TCP sockets of the calling thread's network namespace, by `sock_diag(7)`. The kernel walks the table of
//! listeners alone, and asks for no privileges.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `TCP_LISTEN`, and the set of states with it alone.
const TCP_LISTEN: u8 = 10;
const LISTEN: u32 = 1 << TCP_LISTEN;
/// Bytes of `nlmsghdr` and of `inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;

/// A listening socket as `sock_diag(7)` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiagListener {
    /// The local address.
    pub address: SocketAddr,
    /// The index of the device to which it is bound; 0 for none.
    pub device: u32,
    /// The number of its inode, as in the links of `/proc/PID/fd`; 0 where no file has it. A socket of MPTCP and its
    /// listener of TCP have the same one.
    pub inode: u32,
    /// `SO_COOKIE`: never used again until the next boot.
    pub cookie: u64,
}

/// Lists the listening TCP sockets, those of MPTCP included, by port and address.
///
/// # Errors
///
/// The kernel's error; `NotFound` for a kernel without `CONFIG_INET_TCP_DIAG`.
pub fn listeners() -> io::Result<Vec<DiagListener>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(family.cast_unsigned() as u8, &mut all)?;
    }
    all.sort_by_key(|listener| {
        let SocketAddrKey(port, ip) = key(listener.address);
        (port, ip, listener.device, listener.cookie)
    });
    Ok(all)
}

struct SocketAddrKey(u16, IpAddr);

fn key(address: SocketAddr) -> SocketAddrKey {
    SocketAddrKey(address.port(), address.ip())
}

fn dump(family: u8, all: &mut Vec<DiagListener>) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&request(family), 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let error = word(body, 0).unwrap_or(0).cast_signed();
                    return match error {
                        0 => Ok(()),
                        error => Err(io::Error::from_raw_os_error(-error)),
                    };
                }
                BY_FAMILY => all.extend(parse(body)),
                _ => {}
            }
            rest = next;
        }
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`.
fn request(family: u8) -> [u8; HEADER + 56] {
    let mut bytes = [0; HEADER + 56];
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = libc::IPPROTO_TCP as u8;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&LISTEN.to_ne_bytes());
    bytes
}

/// Type, body and what follows of the first message in `bytes`.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = word(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// `inet_diag_msg`; `None` for another state than LISTEN or another family.
fn parse(body: &[u8]) -> Option<DiagListener> {
    if body.len() < MESSAGE || body[1] != TCP_LISTEN {
        return None;
    }
    let port = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let ip = match i32::from(body[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*body.get(8..)?.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*body.get(8..)?.first_chunk::<16>()?)),
        _ => return None,
    };
    let [low, high] = [word(body, 44)?, word(body, 48)?].map(u64::from);
    Some(DiagListener {
        address: SocketAddr::new(ip, port),
        device: word(body, 40)?,
        inode: word(body, 68)?,
        cookie: low | high << 32,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd as _, linux::fs::MetadataExt as _},
    };

    use super::*;

    #[test]
    fn a_listener_of_this_process_is_listed_with_its_inode() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let listed = listeners().unwrap();
            let found = listed.iter().find(|each| each.address == address).unwrap();
            let file = format!("/proc/self/fd/{}", listener.as_raw_fd());
            let inode = std::fs::metadata(file).unwrap().st_ino();
            assert_eq!(u64::from(found.inode), inode);
            assert_ne!(found.cookie, 0);
            drop(listener);
            let listed = listeners().unwrap();
            assert!(listed.iter().all(|each| each.cookie != found.cookie));
        }
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        assert!(message(&[0; 8]).is_none());
        assert!(message(&[40; 20]).is_none());
        assert!(parse(&[2; MESSAGE - 1]).is_none());
    }
}
