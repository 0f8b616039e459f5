//! Network interfaces and their XDP programs: rtnetlink's `RTM_GETLINK`.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    pin::Pin,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily as LinkFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp, Prop, XdpAttached},
    },
    sys::{AsyncSocket as _, SocketAddr},
};
use rustix::net::{AddressFamily, SocketType, netdevice::index_to_name, socket};
use tfo_common::wire::Link;

use super::{
    netlink::{ask, refusal},
    refusal::with_limit,
};
use crate::model::AttachMode;

/// `linux/if_link.h`.
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Interfaces could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("cannot ask the kernel for its interfaces: {}", with_limit(.0.to_string()))]
    Socket(#[from] io::Error),
    /// The kernel's error.
    #[error("cannot ask the kernel for its interfaces: {}", with_limit(.0.to_string()))]
    Netlink(#[from] rtnetlink::Error),
    /// No interface has this name.
    #[error("interface {name}: no such interface here: there are {have}", have = have.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names of the existing interfaces.
        have: Vec<String>,
    },
}

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The program's id.
    pub program_id: u32,
    /// The mode in which it runs.
    pub mode: AttachMode,
}

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Stays when the interface is renamed.
    pub index: u32,
    /// Unique within the namespace.
    pub name: String,
    /// Further names (`ip link property add dev NAME altname OTHER`), unique as well.
    pub other_names: Vec<String>,
    /// The link-layer address; empty where it has none.
    pub address: Vec<u8>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Bytes, without the link-layer header.
    pub mtu: u32,
    /// The XDP program; the native one where there are several.
    pub xdp: Option<AttachedXdp>,
    /// The link layer; `Err` with its name where the data path cannot parse it.
    pub link: Result<Link, String>,
    /// It ends tunnels of IP in IP (ipip, sit, ip6tnl): packets come out of it.
    pub ends_ip_tunnels: bool,
}

impl Interface {
    /// `name` is its name, or one of its alternative names.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.other_names.iter().any(|other| other == name)
    }
}

/// Lists the interfaces of the calling thread's namespace.
///
/// # Errors
///
/// [`LinkError`] where rtnetlink fails.
pub async fn list() -> Result<Vec<Interface>, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    connection.abort();
    Ok(links.into_iter().filter_map(interface).collect())
}

/// The name of an interface of the calling thread's namespace; `None` where there is none of this index, or its name is no
/// UTF-8.
pub fn name_of(index: u32) -> Option<String> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    index_to_name(socket, index).ok()
}

/// The MTU of an interface of the calling thread's namespace, in bytes; `None` where there is none of this index.
///
/// # Errors
///
/// rtnetlink fails.
pub fn mtu(index: u32) -> io::Result<Option<u32>> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let request = RouteNetlinkMessage::GetLink(request);
    let replies = match ask(request, NLM_F_REQUEST | NLM_F_ACK) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        replies => replies?,
    };
    Ok(replies.into_iter().find_map(|reply| match reply {
        RouteNetlinkMessage::NewLink(link) => interface(link).map(|it| it.mtu),
        _ => None,
    }))
}

/// Detaches an XDP program that no link holds.
///
/// # Errors
///
/// The kernel's error.
pub fn remove_xdp(index: u32, mode: AttachMode) -> io::Result<()> {
    let request = set_xdp(index, -1, xdp_flags(mode));
    ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// The kernel's words on why it refuses an XDP program; `None` where it has none. BPF links do not bring them.
pub fn xdp_refusal(index: u32, mode: AttachMode, program: BorrowedFd<'_>) -> Option<String> {
    let flags = xdp_flags(mode) | XDP_FLAGS_UPDATE_IF_NOEXIST;
    let request = set_xdp(index, program.as_raw_fd(), flags);
    let Ok(refused) = refusal(request, NLM_F_REQUEST | NLM_F_ACK) else {
        return None;
    };
    if refused.is_none() {
        // It takes it this time, but is not to keep it.
        let _ = remove_xdp(index, mode);
    }
    refused.filter(|words| !words.is_empty())
}

fn set_xdp(index: u32, program: i32, flags: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let xdp = vec![LinkXdp::Fd(program), LinkXdp::Flags(flags)];
    message.attributes.push(LinkAttribute::Xdp(xdp));
    RouteNetlinkMessage::SetLink(message)
}

const fn xdp_flags(mode: AttachMode) -> u32 {
    match mode {
        AttachMode::Generic => XDP_FLAGS_SKB_MODE,
        _ => XDP_FLAGS_DRV_MODE,
    }
}

/// Notifies of interfaces that come, change or go in the calling thread's namespace: rtnetlink's group
/// `RTNLGRP_LINK`.
pub struct Monitor {
    /// The index of an interface that went, or `None` for another change.
    messages: Pin<Box<dyn Stream<Item = Option<u32>> + Send>>,
    connection: tokio::task::JoinHandle<()>,
    gone: Vec<u32>,
}

impl Monitor {
    /// Subscribes.
    ///
    /// # Errors
    ///
    /// [`LinkError::Socket`].
    pub fn start() -> Result<Self, LinkError> {
        let (mut connection, _, messages) = rtnetlink::new_connection()?;
        let group = SocketAddr::new(0, libc::RTMGRP_LINK.cast_unsigned());
        connection.socket_mut().socket_mut().bind(&group)?;
        Ok(Self {
            messages: Box::pin(messages.map(|(message, _)| gone(&message))),
            connection: tokio::spawn(connection),
            gone: Vec::new(),
        })
    }

    /// The indexes of interfaces that went since the last call. New ones may have these by now.
    pub fn take_gone(&mut self) -> Vec<u32> {
        while let Some(Some(next)) = self.messages.next().now_or_never() {
            self.gone.extend(next);
        }
        std::mem::take(&mut self.gone)
    }

    /// Waits for the next change, and merges the changes that are queued with it. `false` where the socket
    /// overflowed: changes were lost, and a new monitor is needed.
    pub async fn changed(&mut self) -> bool {
        let mut next = self.messages.next().await;
        while let Some(change) = next {
            self.gone.extend(change);
            let Some(queued) = self.messages.next().now_or_never() else {
                return true;
            };
            next = queued;
        }
        false
    }
}

/// The index of the interface that `message` says is gone.
fn gone(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<u32> {
    match &message.payload {
        // With another family, it left a bridge.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
            if link.header.interface_family == LinkFamily::Unspec =>
        {
            Some(link.header.index)
        }
        _ => None,
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Finds an interface by name, or by one of its alternative names.
///
/// # Errors
///
/// [`LinkError::Unknown`] where there is none; others where rtnetlink fails.
pub async fn find(name: &str) -> Result<Interface, LinkError> {
    let mut interfaces = list().await?;
    match interfaces.iter().position(|each| each.is_named(name)) {
        Some(position) => Ok(interfaces.swap_remove(position)),
        None => Err(LinkError::Unknown {
            name: name.to_owned(),
            have: interfaces.into_iter().map(|each| each.name).collect(),
        }),
    }
}

fn interface(message: LinkMessage) -> Option<Interface> {
    let mut name = None;
    let mut other_names = Vec::new();
    let mut xdp = None;
    let mut mtu = 0;
    let mut address = Vec::new();
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value),
            LinkAttribute::Mtu(value) => mtu = value,
            LinkAttribute::Address(value) => address = value,
            LinkAttribute::PropList(properties) => {
                other_names.extend(properties.into_iter().filter_map(other_name));
            }
            LinkAttribute::Xdp(attributes) => xdp = attached(&attributes),
            _ => {}
        }
    }
    Some(Interface {
        index: message.header.index,
        name: name?,
        other_names,
        address,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu,
        xdp,
        link: link(message.header.link_layer_type),
        ends_ip_tunnels: matches!(
            message.header.link_layer_type,
            LinkLayerType::Tunnel | LinkLayerType::Tunnel6 | LinkLayerType::Sit
        ),
    })
}

fn other_name(property: Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}

/// The remedy for an interface with a link layer that [`Interface::link`] does not have.
pub fn remedy_of_layer(layer: &str) -> &'static str {
    let gre = [LinkLayerType::Ipgre, LinkLayerType::Ip6gre];
    if gre.iter().any(|it| it.to_string() == layer) {
        "its packets have the outer header here, and tfo does not look into tunnels there: read through it at the NIC (--decap gre), or make the tunnel with a device whose \
         packets tfo reads (gretap, ip6gretap, ipip, ip6tnl)"
    } else {
        "attach to another interface that its packets pass"
    }
}

fn link(layer: LinkLayerType) -> Result<Link, String> {
    match layer {
        LinkLayerType::Ether | LinkLayerType::Loopback => Ok(Link::Ethernet),
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => Ok(Link::None),
        other => Err(other.to_string()),
    }
}

pub(super) fn attached(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Multiple) => Some(AttachMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(AttachMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(AttachMode::Offloaded),
        _ => None,
    })?;
    let program_id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) => Some(*id),
        _ => None,
    })?;
    Some(AttachedXdp { program_id, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gre_devices_without_ethernet_have_a_remedy_of_their_own() {
        for (layer, part) in [
            (LinkLayerType::Ipgre, "gretap, ipip, ip6tnl"),
            (LinkLayerType::Ip6gre, "gretap, ipip, ip6tnl"),
            (LinkLayerType::Can, "another interface"),
        ] {
            let layer = link(layer).unwrap_err();
            let remedy = remedy_of_layer(&layer);
            assert!(remedy.contains(part), "{layer}: {remedy}");
        }
        assert_eq!(link(LinkLayerType::Tunnel), Ok(Link::None));
        assert_eq!(link(LinkLayerType::Ether), Ok(Link::Ethernet));
    }
}
