//! Packet sockets in the testbed's namespaces, with deadlines.

use std::{io, os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, Result};
use rustix::event::PollFlags;
pub use tfo_userspace::kernel::packet_socket::Frames;
use tfo_userspace::kernel::packet_socket::PacketSocket;

use crate::{
    netns::Netns,
    poll::{Deadline, any_ready},
    sockopt,
};

/// A packet socket bound to one interface.
#[derive(Debug)]
pub struct LinkSocket {
    pub(crate) socket: PacketSocket,
}

impl LinkSocket {
    /// Opens a socket in `netns` and binds it to `interface`. Earlier frames are not received.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_RAW`, or the interface does not exist.
    pub fn open(netns: &Netns, interface: &str, frames: Frames) -> Result<Self> {
        let socket = netns.run(|| PacketSocket::open(interface, frames));
        let socket =
            socket.with_context(|| format!("cannot open a packet socket on {interface}"))?;
        Ok(Self { socket })
    }

    /// Sends one frame, from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }

    /// Sets `PACKET_VNET_HDR`. From then on, only [`Self::send_partial`] may be used to send.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn leave_checksums(&self) -> io::Result<()> {
        sockopt::set_vnet_header(&self.socket)
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
        if !any_ready(&[self.socket.as_fd()], PollFlags::IN, deadline)? {
            return Ok(None);
        }
        self.socket.receive()
    }
}
