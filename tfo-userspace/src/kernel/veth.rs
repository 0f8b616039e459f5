//! Pairs of veth interfaces, their addresses and neighbours: rtnetlink, in the calling thread's namespace.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
        link::{
            InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
        },
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    },
};
use rustix::net::{AddressFamily as SocketFamily, SocketType, netdevice::name_to_index, socket};

use super::netlink::ask;

/// Time between two looks at an interface.
const LOOK: Duration = Duration::from_millis(2);
/// The qdisc of an interface that sends nothing yet.
const NO_QDISC: &str = "noop";

const CREATE: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

/// An interface of a pair.
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// Makes a pair: one end here, its peer in the namespace `there`.
///
/// # Errors
///
/// The kernel's error: `EOPNOTSUPP` without veth.
pub fn create(here: &VethEnd<'_>, peer: &VethEnd<'_>, there: BorrowedFd<'_>) -> io::Result<()> {
    let mut other = of(peer);
    let namespace = LinkAttribute::NetNsFd(there.as_raw_fd());
    other.attributes.push(namespace);
    let mut pair = of(here);
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
    ]));
    ask(RouteNetlinkMessage::NewLink(pair), CREATE).map(drop)
}

fn of(end: &VethEnd<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
    ];
    message
}

/// Sets an interface up.
///
/// # Errors
///
/// The kernel's error.
pub fn set_up(name: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(name)?;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let request = RouteNetlinkMessage::SetLink(message);
    ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// Gives an interface an address, which nobody else has: it is used at once.
///
/// # Errors
///
/// The kernel's error.
pub fn add_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index(name)?;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Address(address),
        AddressAttribute::Local(address),
    ];
    ask(RouteNetlinkMessage::NewAddress(message), CREATE).map(drop)
}

/// Tells an interface the MAC address of a neighbour, for good.
///
/// # Errors
///
/// The kernel's error.
pub fn set_neighbour(name: &str, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index(name)?;
    message.header.state = NeighbourState::Permanent;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLocalAddress(mac.to_vec()),
    ];
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    ask(RouteNetlinkMessage::NewNeighbour(message), flags).map(drop)
}

/// Waits until an interface can send: the kernel gives it a qdisc some time after it is up, and drops frames until then.
///
/// # Errors
///
/// The kernel's error, or `TimedOut`.
pub fn wait_until_up(name: &str, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !can_send(name)? {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn can_send(name: &str) -> io::Result<bool> {
    let mut message = LinkMessage::default();
    message.header.index = index(name)?;
    let request = RouteNetlinkMessage::GetLink(message);
    let replies = ask(request, NLM_F_REQUEST | NLM_F_ACK)?;
    Ok(replies.iter().any(|reply| {
        let RouteNetlinkMessage::NewLink(link) = reply else {
            return false;
        };
        let (mut is_up, mut has_qdisc) = (false, false);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::OperState(state) => is_up = *state == State::Up,
                LinkAttribute::Qdisc(qdisc) => has_qdisc = qdisc != NO_QDISC,
                _ => {}
            }
        }
        is_up && has_qdisc
    }))
}

fn index(name: &str) -> io::Result<u32> {
    let socket = socket(SocketFamily::INET, SocketType::DGRAM, None)?;
    Ok(name_to_index(socket, name)?)
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
