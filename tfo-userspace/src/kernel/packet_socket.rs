//! Packet sockets: Ethernet frames of one interface. See packet(7). They take `CAP_NET_RAW`.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        bind, netdevice, recv, send, socket_with,
    },
};

/// Maximum of bytes in a frame; a GSO frame may exceed the MTU.
const FRAME_MAX: usize = 1 << 16;

/// Frames that a [`PacketSocket`] receives: its `sll_protocol`, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Frames {
    /// None: the socket only sends.
    None = 0,
    /// Incoming frames with an IPv4 packet.
    Ipv4 = libc::ETH_P_IP as u16,
    /// Incoming frames with an IPv6 packet.
    Ipv6 = libc::ETH_P_IPV6 as u16,
    /// Incoming frames of `EtherType` 0x88b5, for local experiments (IEEE 802).
    Marker = 0x88b5,
    /// All incoming and outgoing frames.
    All = libc::ETH_P_ALL as u16,
}

/// A packet socket bound to one interface.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket in the calling thread's namespace and binds it to `interface`. Earlier frames are not received.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_RAW`, the kernel has no packet sockets, or the interface does not exist.
    pub fn open(interface: &str, frames: Frames) -> io::Result<Self> {
        // With protocol 0, the socket receives nothing before bind(2).
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let address = LinkAddress {
            protocol: frames as u16,
            index: netdevice::name_to_index(&socket, interface)?,
        };
        bind(&socket, &address)?;
        Ok(Self(socket))
    }

    /// Sends one frame, from its Ethernet header on.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.0, frame, SendFlags::empty())?;
        Ok(())
    }

    /// A frame that has arrived, without waiting; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; FRAME_MAX];
        match recv(&self.0, frame.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
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
