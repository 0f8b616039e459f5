//! Network interfaces and the XDP programs that they have: rtnetlink's `RTM_GETLINK`.

use std::{io, pin::Pin};

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST},
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
    },
    sys::{AsyncSocket as _, SocketAddr},
};
use tfo_common::wire::Link;

use super::netlink::ask;
use crate::model::AttachMode;

/// Of `if_link.h`.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Why interfaces could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("cannot ask the kernel for its interfaces: {0}")]
    Socket(#[from] io::Error),
    /// The kernel's word.
    #[error("cannot ask the kernel for its interfaces: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// There is no such interface.
    #[error("interface {name}: there is none of that name here: it has {have}", have = have.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        have: Vec<String>,
    },
}

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The program's id.
    pub program_id: u32,
    /// How it runs.
    pub mode: AttachMode,
}

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its index, which stays when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// The most bytes of a packet, without what stands in front of it.
    pub mtu: u32,
    /// Its XDP program. Where it has several, the driver's.
    pub xdp: Option<AttachedXdp>,
    /// What stands in front of its packets; as an error, a link layer that is not read.
    pub link: Result<Link, String>,
}

/// The interfaces of the calling thread's namespace.
///
/// # Errors
///
/// [`LinkError`] where the kernel does not say.
pub async fn list() -> Result<Vec<Interface>, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    connection.abort();
    Ok(links.into_iter().filter_map(interface).collect())
}

/// Takes the XDP program off an interface to which no link holds it.
///
/// # Errors
///
/// The kernel's word.
pub fn remove_xdp(index: u32, mode: AttachMode) -> io::Result<()> {
    let flags = match mode {
        AttachMode::Generic => XDP_FLAGS_SKB_MODE,
        _ => XDP_FLAGS_DRV_MODE,
    };
    let mut message = LinkMessage::default();
    message.header.index = index;
    let none = vec![LinkXdp::Fd(-1), LinkXdp::Flags(flags)];
    message.attributes.push(LinkAttribute::Xdp(none));
    let request = RouteNetlinkMessage::SetLink(message);
    ask(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// Tells that interfaces of the calling thread's namespace came, changed or went: rtnetlink's group
/// `RTNLGRP_LINK`.
pub struct Monitor {
    messages: Pin<Box<dyn Stream<Item = ()> + Send>>,
    connection: tokio::task::JoinHandle<()>,
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// [`LinkError::Socket`].
    pub fn start() -> Result<Self, LinkError> {
        let (mut connection, _, messages) = rtnetlink::new_connection()?;
        let group = SocketAddr::new(0, libc::RTMGRP_LINK.cast_unsigned());
        connection.socket_mut().socket_mut().bind(&group)?;
        Ok(Self {
            messages: Box::pin(messages.map(|_| ())),
            connection: tokio::spawn(connection),
        })
    }

    /// Waits for the next change; what else has changed by then is told with it. `false` where there will be
    /// none any more, and another monitor is needed: the kernel had more to tell than the socket holds.
    pub async fn changed(&mut self) -> bool {
        let mut more = self.messages.next().await.is_some();
        while let Some(next) = self.messages.next().now_or_never() {
            more &= next.is_some();
            if !more {
                break;
            }
        }
        more
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The interface of that name.
///
/// # Errors
///
/// [`LinkError::Unknown`] where there is none.
pub async fn find(name: &str) -> Result<Interface, LinkError> {
    let mut interfaces = list().await?;
    match interfaces.iter().position(|each| each.name == name) {
        Some(position) => Ok(interfaces.swap_remove(position)),
        None => Err(LinkError::Unknown {
            name: name.to_owned(),
            have: interfaces.into_iter().map(|each| each.name).collect(),
        }),
    }
}

fn interface(message: LinkMessage) -> Option<Interface> {
    let mut name = None;
    let mut xdp = None;
    let mut mtu = 0;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value),
            LinkAttribute::Mtu(value) => mtu = value,
            LinkAttribute::Xdp(attributes) => xdp = attached(&attributes),
            _ => {}
        }
    }
    Some(Interface {
        index: message.header.index,
        name: name?,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu,
        xdp,
        link: link(message.header.link_layer_type),
    })
}

fn link(layer: LinkLayerType) -> Result<Link, String> {
    match layer {
        LinkLayerType::Ether | LinkLayerType::Loopback => Ok(Link::Ethernet),
        LinkLayerType::None | LinkLayerType::Rawip | LinkLayerType::Ppp => Ok(Link::None),
        other => Err(other.to_string()),
    }
}

fn attached(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
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
