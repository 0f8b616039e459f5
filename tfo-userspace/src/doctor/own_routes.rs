//! The routes of SYN-ACKs where own cookies are in force: one that leaves by an interface without `tfo` keeps the kernel's cookie.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::finding::Finding;
use crate::{
    datapath::{AttachedInterface, Namespace},
    kernel::{
        device::{self, Stack},
        link, routes,
    },
};

const CHECK: &str = "own cookies and routes";
/// Most sources of an interface whose routes are looked up: those that use Fast Open most.
const MOST: usize = 64;
/// Most addresses of an interface, and family, that SYN-ACKs may be from.
const MOST_ADDRESSES: usize = 8;
/// Addresses for documentation (RFC 5737, RFC 3849), which nobody has: the route to them is the one to the world.
const WORLD: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The routes to clients whose SYNs come by an interface that translates.
#[derive(Debug, Default)]
pub(super) struct AnswerRoutes {
    /// Sources of SYNs whose routes were looked up.
    sources: usize,
    /// The interfaces without `tfo` by which packets to those sources leave, with their number.
    elsewhere: BTreeMap<String, usize>,
    /// Those by which packets to the world leave, where nobody has come yet.
    world: BTreeSet<String>,
}

impl AnswerRoutes {
    /// Reads the routes, and leaves out what cannot be read.
    pub(super) fn read(namespace: &Namespace, interfaces: &[AttachedInterface]) -> Self {
        let stack = device::stack().unwrap_or_default();
        let attached = interfaces.iter().filter(|it| it.mode.is_some());
        let covered = covered(attached.clone().map(|it| it.index).collect(), &stack);
        let mut found = Self::default();
        for &AttachedInterface { index, .. } in attached {
            if !namespace.own_cookies().is_issuing(index) {
                continue;
            }
            let addresses = routes::addresses(index).unwrap_or_default();
            let vrf = stack.vrfs.get(&index).copied();
            let leaves = |to| leaves(&addresses, to, vrf, &covered).and_then(link::name_of);
            let sources = namespace.counters_of(index).sources(u32::MAX);
            let sources = sources.ok().and_then(|(sources, _)| sources);
            let sources = sources.map_or(Vec::new(), |sources| sources.top(MOST));
            if sources.is_empty() {
                let has_family =
                    |to: &IpAddr| addresses.iter().any(|it| it.is_ipv4() == to.is_ipv4());
                let world = WORLD.into_iter().filter(has_family);
                found.world.extend(world.filter_map(leaves));
                continue;
            }
            found.sources += sources.len();
            for name in sources.iter().filter_map(|(it, _)| leaves(it.address)) {
                *found.elsewhere.entry(name).or_default() += 1;
            }
        }
        found
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        const LOST: &str =
            "where tfo is not attached: such clients get the kernel's cookies, not own ones";
        let remedy = |interface: &str| format!("tfo attach {interface}");
        let elsewhere = self.elsewhere.iter().map(|(interface, count)| {
            let found = format!(
                "SYN-ACKs to {count} of the {} sources looked at leave by it, {LOST}",
                self.sources
            );
            Finding::warning(CHECK, found)
                .of(interface)
                .remedy(remedy(interface))
        });
        let world = self
            .world
            .iter()
            .filter(|interface| !self.elsewhere.contains_key(*interface));
        let world = world.map(|interface| {
            let found = format!("SYN-ACKs to other networks will leave by it, {LOST}");
            let remedy = format!("{}, if clients are in other networks", remedy(interface));
            Finding::note(CHECK, found).of(interface).remedy(remedy)
        });
        elsewhere.chain(world).collect()
    }
}

/// `attached`, and every device whose frames leave by one of them.
fn covered(attached: BTreeSet<u32>, stack: &Stack) -> BTreeSet<u32> {
    let mut covered = attached;
    loop {
        let before = covered.len();
        for [upper, lower] in &stack.below {
            if covered.contains(lower) {
                covered.insert(*upper);
            }
        }
        if covered.len() == before {
            return covered;
        }
    }
}

/// The device by which packets to `client` leave, whichever of `addresses` they are from; `None` where one of them leaves by one
/// of `covered`, or none leaves.
fn leaves(
    addresses: &[IpAddr],
    client: IpAddr,
    vrf: Option<u32>,
    covered: &BTreeSet<u32>,
) -> Option<u32> {
    let own = addresses
        .iter()
        .filter(|own| own.is_ipv4() == client.is_ipv4());
    let mut own: Vec<_> = own.copied().map(Some).take(MOST_ADDRESSES).collect();
    if own.is_empty() {
        // The service's address is of another interface, such as lo.
        own.push(None);
    }
    let mut elsewhere = None;
    for own in own {
        match routes::output_device(own, client, vrf) {
            Some(device) if covered.contains(&device) => return None,
            device => elsewhere = elsewhere.or(device),
        }
    }
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{Note, Warning},
        finding::testing::{expect, find},
    };

    #[test]
    fn an_interface_without_tfo_by_which_answers_leave_is_named() {
        assert_eq!(AnswerRoutes::default().judge(), []);
        let mut routes = AnswerRoutes {
            world: [String::from("eth1")].into(),
            ..AnswerRoutes::default()
        };
        expect(&routes.judge(), CHECK, Note, "to other networks");
        routes.sources = 40;
        routes.elsewhere = [(String::from("eth1"), 12)].into();
        let findings = routes.judge();
        expect(&findings, CHECK, Warning, "12 of the 40 sources");
        let finding = find(&findings, CHECK);
        assert_eq!(finding.interface.as_deref(), Some("eth1"));
        assert_eq!(finding.remedy.as_deref(), Some("tfo attach eth1"));
    }

    #[test]
    fn a_device_above_an_attached_one_is_covered() {
        let stack = Stack {
            // A VLAN device on a bond of two ports, and another interface.
            below: vec![[20, 10], [10, 2], [10, 3], [21, 4]],
            ..Stack::default()
        };
        assert_eq!(covered([2].into(), &stack), [2, 10, 20].into());
        assert_eq!(covered([5].into(), &stack), [5].into());
    }
}
