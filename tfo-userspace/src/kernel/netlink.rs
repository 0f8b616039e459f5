//! rtnetlink: one request at a time, for messages that the rtnetlink crate has no call for, and notices of changes.

use std::io;

use rtnetlink::{
    constants::{RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE, RTMGRP_LINK},
    packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Notices that one call reads.
const MAX_NOTICES: u32 = 1024;

/// The kernel's notices of changed routes and devices in the namespace of the thread that made it.
pub struct RouteNotices(Socket);

impl RouteNotices {
    /// Notices of what changes from now on.
    ///
    /// # Errors
    ///
    /// Those of socket(2) or bind(2).
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        let groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Whether there were any since the last call. Also where the kernel had to drop some (`ENOBUFS`).
    ///
    /// # Errors
    ///
    /// Those of recv(2).
    pub fn take(&self) -> io::Result<bool> {
        // Bounded: a router's routes may change faster than they are read here.
        for notice in 0..MAX_NOTICES {
            // Only that it came counts, so what does not fit is left.
            let mut start = [0; 1];
            match self.0.recv(&mut start.as_mut_slice(), 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(notice > 0),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Sends a request and collects the replies up to `NLMSG_DONE` or an acknowledgement.
///
/// # Errors
///
/// The kernel's error, or one of socket(2), send(2) or recv(2).
pub(super) fn ask(
    request: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    exchange(Socket::new(NETLINK_ROUTE)?, request, flags)
}

/// As [`ask`], but the kernel filters what it lists by the request's header (`NETLINK_GET_STRICT_CHK`).
///
/// # Errors
///
/// As [`ask`].
pub(super) fn ask_strictly(
    request: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_netlink_get_strict_chk(true)?;
    exchange(socket, request, flags)
}

/// The kernel's words (extended acknowledgement) on why it refuses `request`, which may be empty; `None` where it does what is
/// asked.
///
/// # Errors
///
/// Those of socket(2), send(2) or recv(2).
pub(super) fn refusal(request: RouteNetlinkMessage, flags: u16) -> io::Result<Option<String>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_ext_ack(true)?;
    send(&mut socket, request, flags)?;
    let (reply, _) = socket.recv_from_full()?;
    let accepted = reply.get(16..20) == Some(&[0; 4]);
    Ok((!accepted).then(|| words(&reply).unwrap_or_default()))
}

/// The attribute `NLMSGERR_ATTR_MSG` of an `NLMSG_ERROR`.
fn words(reply: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const MESSAGE: u16 = 1;
    let half = |at: usize| Some(u16::from_ne_bytes(*reply.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_ne_bytes(*reply.get(at..)?.first_chunk()?));
    // The error's number, then the request's header and what follows it, where that is not left out (`NLM_F_CAPPED`).
    let (request, flags) = (HEADER + 4, half(6)?);
    let length = if flags & 0x100 == 0 {
        word(request)? as usize
    } else {
        HEADER
    };
    let mut at = request + length.next_multiple_of(4);
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        let length = usize::from(length).max(4);
        if kind == MESSAGE {
            let text = reply
                .get(at + 4..at + length)?
                .split(|byte| *byte == 0)
                .next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        at += length.next_multiple_of(4);
    }
    None
}

fn exchange(
    mut socket: Socket,
    request: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    send(&mut socket, request, flags)?;
    let mut replies = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
            // Something changed during the dump, which may lack entries.
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(replies),
                NetlinkPayload::InnerMessage(reply) => replies.push(reply),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn send(socket: &mut Socket, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(request);
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}
