//! Entries of the map `GUARD_EDGES`: a service behind this host, its rule, and the terms of its challenges.

use aya::maps::lpm_trie::Key;
use tfo_common::{
    guard::{
        GuardPort, HeaderRules, ListenerFlags,
        edge::{EdgeKey, EdgePort, EdgeTerms},
    },
    wire::addresses::Address,
};

use crate::{
    kernel::{sysctl, window},
    model::{EdgeGuard, EdgeService, PortGuard, Prefix},
};

/// Bits of an IPv4-mapped address before the IPv4 address.
const MAPPED: u32 = 96;

pub(super) fn edge_key(service: &EdgeService) -> Key<EdgeKey> {
    let Prefix { address, len } = service.vip;
    let mapped = if address.is_ipv4() { MAPPED } else { 0 };
    let bits = EdgeKey::PORT_BITS + mapped + u32::from(len);
    Key::new(bits, EdgeKey::new(Address::of_ip(address), service.port))
}

pub(super) fn edge_service(key: &Key<EdgeKey>) -> EdgeService {
    let bits = key.prefix_len().saturating_sub(EdgeKey::PORT_BITS);
    let [v4, v6] = [bits.saturating_sub(MAPPED), bits].map(|len| len as u8);
    let data = key.data();
    EdgeService {
        vip: Prefix::of_map(data.address(), v4, v6),
        port: data.port(),
    }
}

/// A listener without options of its own, as this host's sysctls have it. Reads them.
pub(super) fn host_listener() -> ListenerFlags {
    ListenerFlags::new(window::receive_buffer(), sysctl::handshake_options())
}

/// Rule and terms, with this state. What the rule does not say is this host's, of which `listener` is.
pub(super) fn edge_entry(edge: &EdgeGuard, port: GuardPort, listener: ListenerFlags) -> EdgePort {
    let hop_limit = HeaderRules::OF_DEVICE;
    let headers = HeaderRules::new(edge.mss.unwrap_or(0), hop_limit, 0);
    EdgePort {
        port: GuardPort {
            rule: edge.rule.rule(),
            ..port
        },
        terms: EdgeTerms {
            listener: listener.word(),
            headers: headers.word(),
            window_scale: edge.window_scale.map_or(EdgeTerms::OF_HOST, u64::from),
        },
    }
}

pub(super) fn edge_guard(entry: &EdgePort) -> EdgeGuard {
    let mss = entry.terms.headers().limited_mss(u16::MAX);
    let scale = entry.terms.window_scale;
    EdgeGuard {
        rule: PortGuard::of_rule(&entry.port.rule),
        mss: (mss != u16::MAX).then_some(mss),
        window_scale: (scale != EdgeTerms::OF_HOST).then_some(scale as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_back() {
        for vip in [
            "198.51.100.7",
            "198.51.0.0/16",
            "2001:db8::1",
            "2001:db8::/48",
            "0.0.0.0/0",
        ] {
            let service = EdgeService {
                vip: vip.parse().unwrap(),
                port: 443,
            };
            assert_eq!(edge_service(&edge_key(&service)), service);
        }
        for (mss, window_scale) in [(None, None), (Some(1400), Some(0)), (Some(536), Some(14))] {
            let edge = EdgeGuard {
                mss,
                window_scale,
                ..EdgeGuard::default()
            };
            let entry = edge_entry(&edge, GuardPort::default(), ListenerFlags::NONE);
            assert_eq!(edge_guard(&entry), edge);
        }
    }
}
