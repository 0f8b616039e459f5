//! XDP features of a driver: the generic netlink family `netdev` (Linux 6.3).

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// `linux/genetlink.h`: the control family, which resolves family names.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `linux/netdev.h`.
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `linux/netlink.h`.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// `enum netdev_xdp_act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// `NETDEV_XDP_ACT_BASIC`: native XDP.
    pub const fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// `NETDEV_XDP_ACT_RX_SG`: native XDP with frames over several buffers, and so without a bound on the MTU.
    pub const fn several_buffers(self) -> bool {
        self.0 & 32 != 0
    }
}

/// Reads the features of the interface of this index, in the calling thread's namespace.
///
/// # Errors
///
/// The kernel's error; [`io::ErrorKind::NotFound`] before Linux 6.3.
pub fn read(index: u32) -> io::Result<XdpFeatures> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let family = ask(&socket, CONTROL, GET_FAMILY, (FAMILY_NAME, b"netdev\0"))?;
    let family = attribute(&family, FAMILY_ID).ok_or(io::ErrorKind::InvalidData)?;
    let family = u16::from_ne_bytes(family);
    let device = ask(&socket, family, GET_DEVICE, (IFINDEX, &index.to_ne_bytes()))?;
    let features = attribute(&device, XDP_FEATURES).ok_or(io::ErrorKind::InvalidData)?;
    Ok(XdpFeatures(u64::from_ne_bytes(features)))
}

/// Sends a request with one attribute. Gives the attributes of the reply.
fn ask(socket: &Socket, family: u16, command: u8, with: (u16, &[u8])) -> io::Result<Vec<u8>> {
    let (kind, value) = with;
    let mut attribute = Vec::new();
    attribute.extend((4 + value.len() as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut request = Vec::new();
    request.extend(((HEADER + GENERIC_HEADER + attribute.len()) as u32).to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    // Sequence number and port id are 0: one request is in flight at a time.
    request.extend([0; 8]);
    request.extend([command, 1, 0, 0]);
    request.extend(attribute);
    socket.send(&request, 0)?;
    let (reply, _) = socket.recv_from_full()?;
    attributes(reply)
}

/// The attributes of a reply; an `NLMSG_ERROR` as the error that it carries.
fn attributes(mut reply: Vec<u8>) -> io::Result<Vec<u8>> {
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = reply.get(4..6).ok_or_else(short)?;
    if kind == ERROR.to_ne_bytes() {
        let (errno, _) = reply[6..]
            .get(HEADER - 6..)
            .and_then(<[u8]>::split_first_chunk)
            .ok_or_else(short)?;
        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*errno)));
    }
    if reply.len() < HEADER + GENERIC_HEADER {
        return Err(short());
    }
    Ok(reply.split_off(HEADER + GENERIC_HEADER))
}

/// The first attribute of this type; `None` where it has another size.
fn attribute<const N: usize>(mut attributes: &[u8], kind: u16) -> Option<[u8; N]> {
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([head[2], head[3]]) == kind {
            return value.try_into().ok();
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_after_others() {
        let bytes = [
            &5_u16.to_ne_bytes()[..],
            &7_u16.to_ne_bytes(),
            &[1, 0, 0, 0],
            &6_u16.to_ne_bytes(),
            &9_u16.to_ne_bytes(),
            &[2, 3, 0, 0],
        ]
        .concat();
        assert_eq!(attribute(&bytes, 9), Some([2, 3]));
        assert_eq!(attribute(&bytes, 7), Some([1]));
        assert_eq!(attribute::<4>(&bytes, 9), None);
        assert_eq!(attribute::<1>(&bytes, 8), None);
        assert_eq!(attribute::<1>(&[1, 0, 9, 0], 8), None);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut reply = vec![0; HEADER];
        reply[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        reply.extend((-libc::ENODEV).to_ne_bytes());
        let error = attributes(reply).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(attributes(vec![0; 3]).is_err());
    }

    /// The loopback device has index 1 and no driver that takes XDP.
    #[test]
    fn this_kernel_says() {
        assert!(!read(1).unwrap().native());
        assert!(read(u32::MAX).is_err());
    }
}
