//! The guard on VLAN devices and bonds, where the kernel has them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    kernel::{feature, is_before},
    poll::eventually,
    socket::{Connection, Method},
    testbed::{REQUEST, Testbed},
    tfo::LIMIT,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

/// Devices above and below the one with the address, and where the data path is attached.
#[derive(Clone, Copy, Debug)]
enum Stack {
    /// A VLAN device; attached to its parent, which removes the tag.
    Vlan,
    /// A VLAN device with a priority bit and a second tag outside; attached to the outer VLAN device.
    InnerVlan,
    /// A VLAN device, attached to itself.
    VlanItself,
    /// A bond, attached to its port.
    BondPort,
    /// A bond, attached to itself.
    Bond,
}

impl Stack {
    /// Makes the devices at both ends, with addresses in 10.79.0.0/24. Gives the server's interface to attach to; `None`
    /// where this kernel has no such devices.
    fn make(self, pair: &Pair) -> Result<Option<&'static str>> {
        let kind = match self {
            Self::Vlan | Self::VlanItself | Self::InnerVlan => "vlan",
            Self::BondPort | Self::Bond => "bond",
        };
        for (netns, below, number) in [
            (&pair.server, SERVER_INTERFACE, 1),
            (&pair.client, CLIENT_INTERFACE, 2),
        ] {
            let made = match self {
                Self::BondPort | Self::Bond if number == 1 => vec![
                    "link add top0 type bond mode active-backup miimon 100".to_owned(),
                    format!("link set {below} down"),
                    format!("link set {below} master top0"),
                ],
                // The other end needs no bond.
                Self::BondPort | Self::Bond => Vec::new(),
                Self::InnerVlan => vec![
                    format!("link add link {below} name mid0 type vlan protocol 802.1ad id 7"),
                    "link set mid0 up".to_owned(),
                    "link add link mid0 name top0 type vlan id 5".to_owned(),
                ],
                Self::Vlan | Self::VlanItself => {
                    vec![format!("link add link {below} name top0 type vlan id 5")]
                }
            };
            let top = if made.is_empty() { below } else { "top0" };
            if let Err(error) = netns.configure(&made) {
                ensure!(
                    format!("{error:#}").contains("device type"),
                    "{kind}: {error:#}"
                );
                return Ok(None);
            }
            netns.configure(&[
                format!("addr add 10.79.0.{number}/24 dev {top}"),
                format!("link set {top} up"),
            ])?;
        }
        Ok(Some(match self {
            Self::Vlan | Self::BondPort => SERVER_INTERFACE,
            Self::InnerVlan => "mid0",
            Self::VlanItself | Self::Bond => "top0",
        }))
    }
}

/// The guard's answers leave by the device that the kernel's own would, with its tags.
#[test]
fn guard_on_vlans_and_bonds() -> Result<()> {
    if is_before(6, 9)? {
        return Ok(());
    }
    for (name, stacks) in [
        (
            "guard, VLAN devices",
            &[Stack::Vlan, Stack::InnerVlan, Stack::VlanItself][..],
        ),
        ("guard, bonds", &[Stack::BondPort, Stack::Bond]),
    ] {
        let mut form = "yes";
        for stack in stacks {
            let pair = Pair::new()?;
            let Some(interface) = stack.make(&pair)? else {
                form = "no such devices";
                continue;
            };
            guard_through(pair, interface).with_context(|| format!("{stack:?}"))?;
        }
        feature(name, form);
    }
    Ok(())
}

/// A client connects to 10.79.0.1 under the guard on `interface`, and its cookie holds.
fn guard_through(pair: Pair, interface: &str) -> Result<()> {
    let testbed = Testbed::idle(pair)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.tfo.done(&["attach", interface])?;
    testbed.tfo.done(&["guard", "set", "on"])?;
    let to = SocketAddr::new("10.79.0.1".parse()?, listener.port());
    let visit = || -> Result<bool> {
        let client = Connection::open(&testbed.pair.client, to, Method::SendTo, REQUEST)?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        Ok(client.info()?.syn_data_taken)
    };
    // A new link may need a moment.
    eventually("the data is taken from a SYN", LIMIT, visit)?;
    let counted = testbed.tfo.stats()?.counters;
    ensure!(
        counted["GuardAccepted"] >= 1 && counted["GuardProven"] >= 1,
        "{counted:?}"
    );
    Ok(())
}
