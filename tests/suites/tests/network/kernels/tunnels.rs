//! The data path on devices of tunnels, where the kernel has them: they have no Ethernet header.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tfo_testbed::{
    kernel::feature,
    veth::{Family, Pair},
};

use super::stacks::{Devices, Expected, check, join};

/// A row of the table of features, the tunnel, and the version of the packets in it.
const TUNNELS: [(&str, Devices, Family); 4] = [
    (
        "IPv4 in IPv4",
        (
            &["ip link add top0 type ipip local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
            "top0",
        ),
        Family::V4,
    ),
    (
        "IPv6 in IPv4",
        (
            &["ip link add top0 type sit local 10.77.0.LOCAL remote 10.77.0.REMOTE"],
            "top0",
        ),
        Family::V6,
    ),
    (
        "IPv4 in IPv6",
        (
            &["ip link add top0 type ip6tnl mode ipip6 local fd77::LOCAL remote fd77::REMOTE"],
            "top0",
        ),
        Family::V4,
    ),
    (
        "IPv6 in IPv6",
        (
            &["ip link add top0 type ip6tnl mode ip6ip6 local fd77::LOCAL remote fd77::REMOTE"],
            "top0",
        ),
        Family::V6,
    ),
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
