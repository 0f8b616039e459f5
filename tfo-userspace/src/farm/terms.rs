//! What an edge's challenges for a service are to state: what every host keeps that takes the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    guard_record::{GuardRecord, Guards, HandshakeOption},
    verdict::{behind, lacks},
};
use crate::model::EdgeService;

/// What a challenge for a service states. Each part is one that all hosts keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The window scale of the rule, or of all hosts; `None` where these differ.
    pub(crate) window_scale: Option<u8>,
    /// The window scales of the hosts.
    pub(crate) scales: BTreeSet<u8>,
    /// The least MSS of a host, in bytes; `None` where no host tells.
    pub(crate) mss: Option<u16>,
    /// The least receive buffer, where it is less than the edge's own, in bytes.
    pub(crate) receive_buffer: Option<u32>,
    /// The options that the edge and all hosts have. Without a window scale that all have, no windows are scaled.
    pub(crate) options: BTreeSet<HandshakeOption>,
}

/// The terms of each service of the edge with this name that has a host with the rule and the secret.
pub(crate) fn meet(name: &str, edge: &GuardRecord, hosts: &Guards) -> BTreeMap<EdgeService, Terms> {
    let of = |service: &EdgeService| {
        let behind = behind(name, edge, service, hosts);
        let takers = behind.filter(|(_, host)| lacks(edge, service.port, host).is_none());
        let takers: Vec<_> = takers.map(|(_, host)| host).collect();
        (!takers.is_empty()).then(|| (*service, terms(edge, service, &takers)))
    };
    edge.edges.keys().filter_map(of).collect()
}

fn terms(edge: &GuardRecord, service: &EdgeService, hosts: &[&GuardRecord]) -> Terms {
    let scales: BTreeSet<_> = hosts.iter().map(|host| host.window_scale).collect();
    let agreed = scales.first().filter(|_| scales.len() == 1).copied();
    let window_scale = edge.edges.get(service).copied().flatten().or(agreed);
    let mut options = edge.options.clone();
    options.retain(|option| hosts.iter().all(|host| host.options.contains(option)));
    if window_scale.is_none() {
        options.remove(&HandshakeOption::WindowScaling);
    }
    // 0: a host of a version that does not tell.
    let least = |of: fn(&GuardRecord) -> u32| {
        let told = hosts.iter().map(|host| of(host)).filter(|it| *it > 0);
        told.min()
    };
    Terms {
        window_scale,
        scales,
        mss: least(|host| host.mtu).map(|mtu| mss(mtu, service)),
        receive_buffer: least(|host| host.receive_buffer)
            .filter(|buffer| *buffer < edge.receive_buffer),
        options,
    }
}

/// The MSS for an MTU, not less than the kernel's least.
fn mss(mtu: u32, service: &EdgeService) -> u16 {
    let (headers, least) = match service.vip.address {
        IpAddr::V4(_) => (40, 536),
        IpAddr::V6(_) => (60, 1220),
    };
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    mtu.saturating_sub(headers).max(least)
}

#[cfg(test)]
mod tests;
