//! Entries of the map `GUARD_EDGES`: a service behind this host, its rule, and the terms of its challenges.

use aya::maps::lpm_trie::Key;
use tfo_common::{
    guard::{
        GuardPort, HeaderRules, ListenerFlags,
        edge::{EdgeKey, EdgePort, EdgeTerms},
    },
    wire::{addresses::Address, options::negotiated::HostOptions},
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

/// Bits of [`ListenerFlags::controllers`]: an option is not stated for the hosts behind, whatever this host has; the receive
/// buffer is the rule's.
const NO_WINDOW_SCALING: u16 = 1;
const NO_SACK: u16 = 1 << 1;
const NO_ECN: u16 = 1 << 2;
const NO_TIMESTAMPS: u16 = 1 << 3;
const BUFFER: u16 = 1 << 4;

/// What a challenge for the hosts behind states, where this host has `own`.
fn limited(edge: &EdgeGuard, own: ListenerFlags) -> ListenerFlags {
    let (host, all) = (own.host_options(), edge.options);
    let options = HostOptions {
        window_scaling: host.window_scaling && all.window_scaling,
        sack: host.sack && all.sack,
        ecn: host.ecn && all.ecn,
        timestamps: host.timestamps && all.timestamps,
    };
    let bit = |set: bool, bit: u16| if set { bit } else { 0 };
    let bits = bit(!all.window_scaling, NO_WINDOW_SCALING)
        | bit(!all.sack, NO_SACK)
        | bit(!all.ecn, NO_ECN)
        | bit(!all.timestamps, NO_TIMESTAMPS)
        | bit(edge.receive_buffer.is_some(), BUFFER);
    let buffer = edge.receive_buffer.unwrap_or(own.receive_buffer());
    ListenerFlags::new(buffer, options).with_controllers(bits)
}

/// Rule and terms, with this state. What the rule does not say is this host's, of which `own` is.
pub(super) fn edge_entry(edge: &EdgeGuard, port: GuardPort, own: ListenerFlags) -> EdgePort {
    let hop_limit = HeaderRules::OF_DEVICE;
    let headers = HeaderRules::new(edge.mss.unwrap_or(0), hop_limit, 0);
    EdgePort {
        port: GuardPort {
            rule: edge.rule.rule(),
            ..port
        },
        terms: EdgeTerms {
            listener: limited(edge, own).word(),
            headers: headers.word(),
            window_scale: edge.window_scale.map_or(EdgeTerms::OF_HOST, u64::from),
        },
    }
}

pub(super) fn edge_guard(entry: &EdgePort) -> EdgeGuard {
    let mss = entry.terms.headers().limited_mss(u16::MAX);
    let scale = entry.terms.window_scale;
    let listener = entry.terms.listener();
    let has = |bit| listener.controllers() & bit != 0;
    EdgeGuard {
        rule: PortGuard::of_rule(&entry.port.rule),
        mss: (mss != u16::MAX).then_some(mss),
        window_scale: (scale != EdgeTerms::OF_HOST).then_some(scale as u8),
        receive_buffer: has(BUFFER).then_some(listener.receive_buffer()),
        options: HostOptions {
            window_scaling: !has(NO_WINDOW_SCALING),
            sack: !has(NO_SACK),
            ecn: !has(NO_ECN),
            timestamps: !has(NO_TIMESTAMPS),
        },
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

    #[test]
    fn a_challenge_states_what_this_host_and_those_behind_have() {
        let all = EdgeGuard::ALL_OPTIONS;
        let own = ListenerFlags::new(131_072, HostOptions { ecn: false, ..all });
        let edge = EdgeGuard {
            receive_buffer: Some(8192),
            options: HostOptions { sack: false, ..all },
            ..EdgeGuard::default()
        };
        let entry = edge_entry(&edge, GuardPort::default(), own);
        assert_eq!(edge_guard(&entry), edge);
        let states = entry.terms.listener();
        assert!(states.listens() && states.receive_buffer() == 8192);
        let expected = HostOptions {
            sack: false,
            ecn: false,
            ..all
        };
        assert_eq!(states.host_options(), expected);
        // Without limits, all is this host's.
        let entry = edge_entry(&EdgeGuard::default(), GuardPort::default(), own);
        assert_eq!(entry.terms.listener(), own);
    }
}
