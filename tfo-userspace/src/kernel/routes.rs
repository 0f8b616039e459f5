//! Routes: which addresses are local, the MSS that routes advertise, and the device by which a packet leaves.

use std::{collections::BTreeMap, io, net::IpAddr};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
    },
};

use super::netlink::{ask, ask_strictly};
use crate::model::Prefix;

/// `RT_TABLE_MAIN` and `RT_TABLE_LOCAL`.
const MAIN_TABLE: u8 = 254;
const LOCAL_TABLE: u8 = 255;

/// The destinations in the kernel's table of local routes: `true` where packets are delivered to this host, `false` for
/// broadcast, anycast and multicast destinations.
///
/// # Errors
///
/// The kernel's error.
pub fn local() -> io::Result<BTreeMap<Prefix, bool>> {
    let mut found = BTreeMap::new();
    for (family, len) in [(AddressFamily::Inet, 32), (AddressFamily::Inet6, 128)] {
        for route in table(family, LOCAL_TABLE)? {
            if let Some(address) = destination(&route) {
                let prefix = Prefix {
                    address,
                    len: route.header.destination_prefix_length.min(len),
                };
                let local = route.header.kind == RouteType::Local;
                // A local route has precedence where an address is of two kinds.
                *found.entry(prefix).or_default() |= local;
            }
        }
    }
    Ok(found)
}

/// The least MSS that a route of the main table advertises by its `advmss` or its `mtu`, in bytes; 0 where none has one,
/// or they cannot be read.
pub fn least_mss() -> u32 {
    let of = |(family, headers): (AddressFamily, u32)| {
        let routes = table(family, MAIN_TABLE).unwrap_or_default();
        let metrics = routes.into_iter().flat_map(|route| route.attributes);
        let metrics = metrics.filter_map(|it| match it {
            RouteAttribute::Metrics(metrics) => Some(metrics),
            _ => None,
        });
        metrics
            .filter_map(move |metrics| advertised(&metrics, headers))
            .min()
    };
    // Bytes of the shortest IP and TCP headers.
    let families = [(AddressFamily::Inet, 40), (AddressFamily::Inet6, 60)];
    families.into_iter().filter_map(of).min().unwrap_or(0)
}

/// The MSS that a route with these metrics advertises (`dst_metric_advmss`); `None` where the device decides.
fn advertised(metrics: &[RouteMetric], headers: u32) -> Option<u32> {
    let advmss = metrics.iter().find_map(|metric| match metric {
        RouteMetric::Advmss(mss) if *mss > 0 => Some(*mss),
        _ => None,
    });
    advmss.or_else(|| {
        metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu > headers => Some(mtu - headers),
            _ => None,
        })
    })
}

/// The device by which a packet of this host leaves: its index. `source` is an address of this host, or the kernel chooses one;
/// `vrf` is the VRF of the socket. `None` where no device does: there is no such route, or the packet stays here.
pub fn output_device(source: Option<IpAddr>, destination: IpAddr, vrf: Option<u32>) -> Option<u32> {
    let mut request = RouteMessage::default();
    request.header.address_family = family(destination);
    request.header.destination_prefix_length = bits(destination);
    request.header.source_prefix_length = source.map_or(0, bits);
    request.attributes = vec![RouteAttribute::Destination(destination.into())];
    let source = source.map(|source| RouteAttribute::Source(source.into()));
    request.attributes.extend(source);
    request.attributes.extend(vrf.map(RouteAttribute::Oif));
    let request = RouteNetlinkMessage::GetRoute(request);
    let replies = ask(request, NLM_F_REQUEST | NLM_F_ACK).ok()?;
    replies.into_iter().find_map(|reply| match reply {
        RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
            route.attributes.into_iter().find_map(|it| match it {
                RouteAttribute::Oif(device) => Some(device),
                _ => None,
            })
        }
        _ => None,
    })
}

/// The addresses of an interface, without those of the link alone.
///
/// # Errors
///
/// The kernel's error.
pub fn addresses(index: u32) -> io::Result<Vec<IpAddr>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let replies = ask(request, NLM_F_REQUEST | NLM_F_DUMP)?;
    let of_interface = replies.into_iter().filter_map(|reply| match reply {
        RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
        _ => None,
    });
    let own = of_interface.filter_map(|message| {
        let mut own = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(local) => return Some(*local),
                // IPv6 has this one alone; beside the other it is the peer's.
                AddressAttribute::Address(address) => own = Some(*address),
                _ => {}
            }
        }
        own
    });
    let everywhere = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    Ok(own.filter(everywhere).collect())
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn table(family: AddressFamily, table: u8) -> io::Result<Vec<RouteMessage>> {
    /// Dumps that other processes' changes may interrupt.
    const TRIES: u32 = 10;
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.table = table;
    let dump = || {
        let request = RouteNetlinkMessage::GetRoute(request.clone());
        ask_strictly(request, NLM_F_REQUEST | NLM_F_DUMP)
    };
    let interrupted = |replies: &io::Result<_>| matches!(replies, Err(error) if error.kind() == io::ErrorKind::Interrupted);
    let mut replies = dump();
    for _ in 1..TRIES {
        if !interrupted(&replies) {
            break;
        }
        replies = dump();
    }
    let replies = match replies {
        // The kernel has no IPv6, or no such table yet.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
            ) =>
        {
            return Ok(Vec::new());
        }
        replies => replies?,
    };
    let routes = replies.into_iter().filter_map(|reply| match reply {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    Ok(routes.filter(|route| route.header.table == table).collect())
}

/// The destination of a route; the unspecified address of its family where it names none.
fn destination(route: &RouteMessage) -> Option<IpAddr> {
    let named = route.attributes.iter().find_map(|it| match it {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    named.or(match route.header.address_family {
        AddressFamily::Inet => Some(IpAddr::V4([0; 4].into())),
        AddressFamily::Inet6 => Some(IpAddr::V6([0; 16].into())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_its_broadcast_is_not() {
        let local = local().unwrap();
        let of = |text: &str| local.get(&text.parse().unwrap()).copied();
        assert_eq!(of("127.0.0.0/8"), Some(true), "{local:?}");
        assert_eq!(of("127.255.255.255/32"), Some(false));
    }

    #[test]
    fn packets_to_this_host_leave_by_no_device() {
        const LOOPBACK: u32 = 1;
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(addresses(LOOPBACK).unwrap().contains(&own));
        assert_eq!(output_device(None, own, None), None);
        assert_eq!(output_device(Some(own), own, None), None);
    }
}
