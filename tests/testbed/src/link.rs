//! Packet sockets: Ethernet frames of one interface. See packet(7).

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

use crate::{
    netns::Netns,
    poll::{Deadline, any_ready},
    sockopt,
};

/// Maximum of bytes in a frame; a GSO frame may exceed the MTU.
const FRAME_MAX: usize = 1 << 16;

/// Frames that a [`LinkSocket`] receives: its `sll_protocol`, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Frames {
    /// None: the socket only sends.
    None = 0,
    /// Incoming frames with an IPv4 packet.
    Ipv4 = libc::ETH_P_IP as u16,
    /// Incoming frames with an IPv6 packet.
    Ipv6 = libc::ETH_P_IPV6 as u16,
    /// Incoming barrier frames: `EtherType` 0x88b5, for local experiments (IEEE 802).
    Marker = 0x88b5,
    /// All incoming and outgoing frames.
    All = libc::ETH_P_ALL as u16,
}

/// A packet socket bound to one interface.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
}

impl LinkSocket {
    /// Opens a socket in `netns` and binds it to `interface`. Earlier frames are not received.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_RAW`, or the interface does not exist.
    pub fn open(netns: &Netns, interface: &str, frames: Frames) -> Result<Self> {
        netns
            .run(|| {
                // With protocol 0, the socket receives nothing before bind(2).
                let flags = SocketFlags::CLOEXEC;
                let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
                let address = LinkAddress {
                    protocol: frames as u16,
                    index: netdevice::name_to_index(&fd, interface)?,
                };
                bind(&fd, &address)?;
                Ok::<_, io::Error>(Self { fd })
            })
            .with_context(|| format!("cannot open a packet socket on {interface}"))
    }

    /// Sends one frame, from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.fd, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Sets `PACKET_VNET_HDR`. From then on, only [`Self::send_partial`] may be used to send.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn leave_checksums(&self) -> io::Result<()> {
        sockopt::set_vnet_header(&self.fd)
    }

    /// Sends a frame with a partial TCP checksum (`CHECKSUM_PARTIAL`): the field holds the sum of the pseudo-header.
    /// `tcp` is the offset of the TCP header.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send_partial(&self, frame: &[u8], tcp: u16) -> io::Result<()> {
        const NEEDS_CHECKSUM: u16 = 1;
        const CHECKSUM: u16 = 16;
        // `struct virtio_net_hdr`: flags and GSO type in a byte each, then words in host byte order.
        let header = [NEEDS_CHECKSUM.to_le(), 0, 0, tcp, CHECKSUM].map(u16::to_ne_bytes);
        self.send(&[&header.concat(), frame].concat())
    }

    /// The next frame; `None` if none arrives within `limit`.
    ///
    /// # Errors
    ///
    /// As recv(2) and poll(2).
    pub fn receive(&self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        self.receive_before(Deadline::after(limit))
    }

    /// As [`Self::receive`], with a deadline.
    pub(crate) fn receive_before(&self, deadline: Deadline) -> io::Result<Option<Vec<u8>>> {
        if !wait(&[self], deadline)? {
            return Ok(None);
        }
        let mut frame = vec![0; FRAME_MAX];
        let (len, _) = recv(&self.fd, frame.as_mut_slice(), RecvFlags::DONTWAIT)?;
        frame.truncate(len);
        Ok(Some(frame))
    }
}

/// Waits until one of `sockets` has a frame; `false` if none has by the deadline.
pub(crate) fn wait(sockets: &[&LinkSocket], deadline: Deadline) -> io::Result<bool> {
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.fd.as_fd()).collect();
    any_ready(&sockets, PollFlags::IN, deadline)
}

/// The fields of `struct sockaddr_ll` that bind(2) reads.
struct LinkAddress {
    protocol: u16,
    index: u32,
}

// SAFETY: `f` receives a pointer to a complete `sockaddr_ll` on the stack, and its size.
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
