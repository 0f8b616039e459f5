//! Devices above and beside a network interface: its master, its VLAN devices, the other end of a
//! veth pair; and the settings of its driver. rtnetlink's `RTM_GETLINK`, and `SIOCETHTOOL`.

use std::{collections::BTreeMap, fs, io};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST},
    packet_route::{
        RouteNetlinkMessage,
        link::{
            InfoData, InfoKind, InfoMacVlan, InfoVlan, LinkAttribute, LinkInfo, LinkMessage,
            MacVlanMode,
        },
    },
};

use tfo_common::abi::device::answer_key;

use super::{
    ethtool::{self, Channels},
    link::{AttachedXdp, attached},
    netlink::ask,
};

/// The CPUs that the kernel may ever run on.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The other end of a veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It has this XDP program, or none.
    Seen(Option<AttachedXdp>),
    /// It is in a network namespace that this process may not see, or it is gone.
    Unseen,
}

/// The queues of a driver that takes some of them for XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Queue pairs in use and at most.
    pub channels: Channels,
    /// The transmit queues of the network stack; `None` where they are not seen.
    pub stack: Option<u32>,
    /// CPUs.
    pub cpus: u32,
}

/// Facts about an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The name of its master, and the kind: `bridge`, `bond`, `team`.
    pub master: Option<(String, String)>,
    /// The names of its slaves, of a bond.
    pub slaves: Vec<String>,
    /// A macvlan in passthru mode, which takes all of its frames.
    pub passthru: Option<String>,
    /// Its VLAN devices.
    pub vlans: Vec<String>,
    /// The peer of a veth.
    pub peer: Option<Peer>,
    /// Its driver.
    pub driver: Option<String>,
    /// The driver removes VLAN tags from frames.
    pub strips_vlan: bool,
    /// `None` where the driver does not tell.
    pub queues: Option<Queues>,
}

impl DeviceFacts {
    /// Reads the facts about the interface of this index and name, in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn read(index: u32, name: &str) -> io::Result<Self> {
        let links = links(LinkMessage::default(), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut facts = Self {
            driver: ethtool::driver(name),
            strips_vlan: ethtool::strips_vlan(name) == Some(true),
            queues: ethtool::channels(name)
                .zip(cpus())
                .map(|(channels, cpus)| Queues {
                    channels,
                    stack: stack_queues(index, name),
                    cpus,
                }),
            ..Self::default()
        };
        for link in &links {
            let of_link = Link::of(link);
            if link.header.index == index {
                let kind = of_link.port_kind.unwrap_or("unknown");
                facts.master = of_link.master.map(|index| {
                    let master = links.iter().map(Link::of).find(|each| each.index == index);
                    let name = master.and_then(|master| master.name);
                    (name.unwrap_or("unknown").to_owned(), kind.to_owned())
                });
                facts.peer = (of_link.kind == Some(&InfoKind::Veth)).then(|| of_link.peer());
            } else if of_link.master == Some(index) && of_link.port_kind == Some("bond") {
                let name = of_link.name.unwrap_or("unknown");
                facts.slaves.push(name.to_owned());
            } else if of_link.lower == Some(index) && of_link.namespace.is_none() {
                let name = of_link.name.unwrap_or("unknown").to_owned();
                match of_link.kind {
                    Some(InfoKind::Vlan) => facts.vlans.push(name),
                    Some(InfoKind::MacVlan) if of_link.passthru => facts.passthru = Some(name),
                    _ => {}
                }
            }
        }
        Ok(facts)
    }
}

fn links(message: LinkMessage, flags: u16) -> io::Result<Vec<LinkMessage>> {
    let answers = ask(RouteNetlinkMessage::GetLink(message), flags)?;
    let links = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    });
    Ok(links.collect())
}

/// The attributes of an interface that are read here.
#[derive(Default)]
struct Link<'a> {
    index: u32,
    name: Option<&'a str>,
    master: Option<u32>,
    /// The interface below, or the peer; in the namespace of this id, where there is one.
    lower: Option<u32>,
    namespace: Option<i32>,
    kind: Option<&'a InfoKind>,
    port_kind: Option<&'static str>,
    passthru: bool,
    /// The identifier of a VLAN device.
    vlan: Option<u16>,
}

impl<'a> Link<'a> {
    fn of(message: &'a LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = Some(name),
                LinkAttribute::Controller(index) => {
                    link.master = Some(*index).filter(|it| *it != 0);
                }
                LinkAttribute::Link(index) => link.lower = Some(*index).filter(|it| *it != 0),
                LinkAttribute::LinkNetNsId(id) => link.namespace = Some(*id),
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.info(info)),
                _ => {}
            }
        }
        link
    }

    fn info(&mut self, info: &'a LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind),
            LinkInfo::PortKind(kind) => self.port_kind = Some(port_kind(&kind.to_string())),
            LinkInfo::Data(InfoData::MacVlan(data)) => {
                self.passthru = data.contains(&InfoMacVlan::Mode(MacVlanMode::Passthrough));
            }
            LinkInfo::Data(InfoData::Vlan(data)) => {
                self.vlan = data.iter().find_map(|it| match it {
                    InfoVlan::Id(vlan) => Some(*vlan),
                    _ => None,
                });
            }
            _ => {}
        }
    }

    fn peer(&self) -> Peer {
        let Some(lower) = self.lower else {
            return Peer::Unseen;
        };
        let mut request = LinkMessage::default();
        request.header.index = lower;
        request
            .attributes
            .extend(self.namespace.map(LinkAttribute::IfNetnsId));
        let found = links(request, NLM_F_REQUEST | NLM_F_ACK).unwrap_or_default();
        let Some(peer) = found.first() else {
            return Peer::Unseen;
        };
        let xdp = peer
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => attached(xdp),
                _ => None,
            });
        Peer::Seen(xdp)
    }
}

/// A device on top of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Upper {
    index: u32,
    lower: u32,
    /// The VLAN identifier of a VLAN device, 0 of a bond.
    vlan: u16,
}

/// Indices of the devices by which answers leave, where that is not the device by which frames come, by [`answer_key`]: a
/// VLAN device on it, a bond of which it is a slave, a VLAN device on that.
///
/// # Errors
///
/// The kernel's error.
pub fn answer_devices() -> io::Result<BTreeMap<u64, u32>> {
    let links = links(LinkMessage::default(), NLM_F_REQUEST | NLM_F_DUMP)?;
    let links: Vec<_> = links.iter().map(Link::of).collect();
    Ok(keys(&uppers(&links)))
}

/// The relations between devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Indices of a device and of one by which its frames leave: the one below a VLAN or macvlan device, a port of a bond, team
    /// or bridge.
    pub below: Vec<[u32; 2]>,
    /// The VRF of each device that is in one.
    pub vrfs: BTreeMap<u32, u32>,
}

/// The devices of the calling thread's namespace.
///
/// # Errors
///
/// The kernel's error.
pub fn stack() -> io::Result<Stack> {
    let links = links(LinkMessage::default(), NLM_F_REQUEST | NLM_F_DUMP)?;
    let mut stack = Stack::default();
    for link in links.iter().map(Link::of) {
        let stands = matches!(
            link.kind,
            Some(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::IpVlan)
        );
        if let Some(lower) = link.lower.filter(|_| stands && link.namespace.is_none()) {
            stack.below.push([link.index, lower]);
        }
        let Some(master) = link.master else { continue };
        if link.port_kind == Some("vrf") {
            stack.vrfs.insert(link.index, master);
        } else {
            stack.below.push([master, link.index]);
        }
    }
    Ok(stack)
}

fn uppers(links: &[Link<'_>]) -> Vec<Upper> {
    let of = |link: &Link<'_>| {
        let Link {
            index,
            lower,
            vlan,
            master,
            ..
        } = *link;
        let vlan = vlan
            .zip(lower)
            .map(|(vlan, lower)| Upper { index, lower, vlan });
        let bond = master.filter(|_| link.port_kind == Some("bond"));
        let bond = bond.map(|bond| Upper {
            index: bond,
            lower: index,
            vlan: 0,
        });
        [vlan, bond].into_iter().flatten()
    };
    links.iter().flat_map(of).collect()
}

fn keys(uppers: &[Upper]) -> BTreeMap<u64, u32> {
    let mut keys: BTreeMap<_, _> = uppers
        .iter()
        .map(|upper| (answer_key(upper.lower, upper.vlan), upper.index))
        .collect();
    for bond in uppers.iter().filter(|upper| upper.vlan == 0) {
        for vlan in uppers
            .iter()
            .filter(|it| it.lower == bond.index && it.vlan != 0)
        {
            keys.insert(answer_key(bond.lower, vlan.vlan), vlan.index);
        }
    }
    keys
}

/// The kinds of masters that are told apart.
fn port_kind(kind: &str) -> &'static str {
    let known = ["bridge", "bond", "team", "vrf", "openvswitch"];
    known
        .into_iter()
        .find(|each| *each == kind)
        .unwrap_or("unknown")
}

fn cpus() -> Option<u32> {
    let text = fs::read_to_string(POSSIBLE_CPUS).ok()?;
    let last = text.trim().rsplit([',', '-']).next()?;
    Some(last.parse::<u32>().ok()? + 1)
}

/// The transmit queues in sysfs, which shows the network namespace in which it was mounted.
fn stack_queues(index: u32, name: &str) -> Option<u32> {
    let directory = format!("/sys/class/net/{name}");
    let found = fs::read_to_string(format!("{directory}/ifindex")).ok()?;
    if found.trim().parse() != Ok(index) {
        return None;
    }
    let queues = fs::read_dir(format!("{directory}/queues")).ok()?.flatten();
    let transmit = queues.filter(|queue| queue.file_name().to_string_lossy().starts_with("tx-"));
    u32::try_from(transmit.count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_by_the_vlan_device_and_the_bond() {
        let upper = |index, lower, vlan| Upper { index, lower, vlan };
        let keys = keys(&[upper(10, 2, 100), upper(5, 3, 0), upper(11, 5, 200)]);
        let expected = [
            (answer_key(2, 100), 10),
            (answer_key(3, 0), 5),
            (answer_key(5, 200), 11),
            (answer_key(3, 200), 11),
        ];
        assert_eq!(keys, expected.into());
    }
}
