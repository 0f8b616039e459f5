//! Whole Ethernet frames, in and out of one interface: packet(7).

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    event::PollFlags,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        bind, netdevice, recv, send, socket_with,
    },
};

use crate::{netns::Netns, poll::any_ready, sockopt};

/// Most bytes of a frame, that of a segment not yet cut to the wire's size included.
const FRAME_MAX: usize = 1 << 16;

/// Which frames a [`LinkSocket`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Frames {
    /// None: it only sends.
    None = 0,
    /// Those that arrive with an IPv4 packet.
    Ipv4 = libc::ETH_P_IP as u16,
    /// Those that arrive with an IPv6 packet.
    Ipv6 = libc::ETH_P_IPV6 as u16,
    /// All that arrive and all that leave.
    All = libc::ETH_P_ALL as u16,
}

/// A socket for one interface's frames.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
}

impl LinkSocket {
    /// Opens the frames of `interface`, from now on.
    ///
    /// # Errors
    ///
    /// Where the caller may not, or there is no such interface.
    pub fn open(netns: &Netns, interface: &str, frames: Frames) -> Result<Self> {
        netns
            .run(|| {
                // Without a protocol it takes nothing until it is bound.
                let flags = SocketFlags::CLOEXEC;
                let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
                let address = LinkAddress {
                    protocol: frames as u16,
                    index: netdevice::name_to_index(&fd, interface)?,
                };
                bind(&fd, &address)?;
                Ok::<_, io::Error>(Self { fd })
            })
            .with_context(|| format!("cannot open the frames of {interface}"))
    }

    /// Sends one frame, which starts with its Ethernet header.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.fd, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Has it only send frames of which the TCP checksum is left to the network card, by [`Self::send_partial`].
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn leave_checksums(&self) -> io::Result<()> {
        sockopt::set_vnet_header(&self.fd)
    }

    /// Sends a frame with the TCP header at `tcp`, whose checksum is the sum of the pseudo-header alone.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send_partial(&self, frame: &[u8], tcp: u16) -> io::Result<()> {
        const NEEDS_CHECKSUM: u16 = 1;
        const CHECKSUM: u16 = 16;
        // `virtio_net_hdr`: flags and kind of segmentation in a byte each, then words of the host's order.
        let header = [NEEDS_CHECKSUM.to_le(), 0, 0, tcp, CHECKSUM].map(u16::to_ne_bytes);
        self.send(&[&header.concat(), frame].concat())
    }

    /// The next frame, or `None` where none comes within `limit`.
    ///
    /// # Errors
    ///
    /// As recv(2) and poll(2).
    pub fn receive(&self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        if !wait(&[self], limit)? {
            return Ok(None);
        }
        let mut frame = vec![0; FRAME_MAX];
        let (len, _) = recv(&self.fd, frame.as_mut_slice(), RecvFlags::DONTWAIT)?;
        frame.truncate(len);
        Ok(Some(frame))
    }
}

/// Waits until one of `sockets` has a frame; `false` where none has after `limit`.
///
/// # Errors
///
/// As poll(2).
pub fn wait(sockets: &[&LinkSocket], limit: Duration) -> io::Result<bool> {
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.fd.as_fd()).collect();
    any_ready(&sockets, PollFlags::IN, limit)
}

/// The part of a `sockaddr_ll` that bind(2) looks at.
struct LinkAddress {
    protocol: u16,
    index: u32,
}

// SAFETY: `f` gets a pointer to a whole `sockaddr_ll` on the stack, with its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: self.protocol.to_be(),
            sll_ifindex: self.index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as SocketAddrLen;
        f(ptr::from_ref(&address).cast(), len)
    }
}
