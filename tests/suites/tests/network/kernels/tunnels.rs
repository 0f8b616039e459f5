//! The data path on devices of tunnels, where the kernel has them. Most have no Ethernet header.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tfo_testbed::{
    kernel::feature,
    netns::Netns,
    tfo::Tfo,
    veth::{Family, Pair},
};

use super::stacks::{Devices, Expected, check, join};

pub(super) const IPIP: Devices = (
    &["ip link add top0 type ipip local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
    "top0",
);
pub(super) const SIT: Devices = (
    &["ip link add top0 type sit local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
    "top0",
);
pub(super) const IPV4_IN_IPV6: Devices = (
    &["ip link add top0 type ip6tnl mode ipip6 local fd77::LOCAL remote fd77::REMOTE"],
    "top0",
);
pub(super) const IPV6_IN_IPV6: Devices = (
    &["ip link add top0 type ip6tnl mode ip6ip6 local fd77::LOCAL remote fd77::REMOTE"],
    "top0",
);
pub(super) const GUE: Devices = (
    &[
        // The kernel does not look for it.
        "modprobe fou",
        "ip fou add port 6080 gue",
        "ip link add top0 type ipip local 10.77.0.LOCAL remote 10.77.0.REMOTE encap gue encap-sport auto encap-dport 6080",
    ],
    "top0",
);
/// With an Ethernet header, as the next.
const GRETAP: Devices = (
    &["ip link add top0 type gretap local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
    "top0",
);
const VXLAN: Devices = (
    &["ip link add top0 type vxlan id 7 dstport 4789 local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
    "top0",
);

/// A row of the table of features, the tunnel, and the version of the packets in it.
const TUNNELS: [(&str, Devices, Family); 7] = [
    ("IPv4 in IPv4", IPIP, Family::V4),
    ("IPv6 in IPv4", SIT, Family::V6),
    ("IPv4 in IPv6", IPV4_IN_IPV6, Family::V4),
    ("IPv6 in IPv6", IPV6_IN_IPV6, Family::V6),
    ("GUE", GUE, Family::V4),
    ("Ethernet in GRE", GRETAP, Family::V4),
    ("VXLAN", VXLAN, Family::V4),
];

#[test]
fn tunnels() -> Result<()> {
    let mut forms = BTreeMap::new();
    for (row, devices, family) in TUNNELS {
        let pair = Pair::new()?;
        let made = join(&pair, devices, devices)?;
        if made {
            check(pair, "top0", family, Expected::Guarded).context(row)?;
        }
        forms.insert(row, if made { "yes" } else { "no such devices" });
    }
    for (row, form) in forms {
        feature(&format!("tunnels, {row}"), form);
    }
    Ok(())
}

/// Their packets have the outer header, which tfo reads on the interface below alone.
#[test]
fn gre_devices_without_ethernet_are_refused_with_those_that_work() -> Result<()> {
    for (kind, local, remote) in [
        ("gre", "10.77.0.1", "10.77.0.2"),
        ("ip6gre", "fd77::1", "fd77::2"),
    ] {
        let netns = Netns::new("gre")?;
        let add = [
            "link", "add", "top0", "type", kind, "local", local, "remote", remote,
        ];
        if let Err(error) = netns.ip(&add) {
            println!("{kind}: no such devices: {error}");
            continue;
        }
        let refused = Tfo::new(&netns).run(&["attach", "top0"])?;
        refused.ensure_refused(&["top0: its link layer is", "gretap, ipip, ip6tnl"])?;
    }
    Ok(())
}
