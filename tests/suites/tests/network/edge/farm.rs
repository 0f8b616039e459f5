//! A client, edges that route to a service, and the hosts of the service. Each edge and each host may get any flow (ECMP),
//! and hosts answer the client directly.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    answering::answering,
    keys::{self, KeyFile},
    netns::Netns,
    process,
    socket::{Connection, Listener, Method},
    tfo::{self, LIMIT, Tfo},
    veth::Family,
};

pub(crate) const PORT: u16 = 8080;
pub(crate) const SECRET: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";
pub(crate) const REQUEST: &[u8] = b"who answers?";

pub(crate) const fn service(family: Family) -> SocketAddr {
    SocketAddr::new(family.vip(), PORT)
}

/// A member of both networks, or of the one in front alone.
pub(crate) struct Member {
    /// The command before its namespace: it detaches when it is dropped.
    pub(crate) tfo: Tfo,
    pub(crate) netns: Netns,
    /// The last part of its addresses.
    number: usize,
}

impl Member {
    fn new(label: &str, number: usize, switch: &Netns, networks: &[&str]) -> Result<Self> {
        let netns = Netns::new(label)?;
        for (subnet, network) in networks.iter().enumerate() {
            let subnet = subnet + 1;
            let peer = format!("{network}{number}");
            netns.configure(&[
                format!(
                    "link add {network} address 02:00:00:00:{subnet:02}:{number:02} type veth peer name {peer} netns {}",
                    switch.name()
                ),
                format!("link set {network} up"),
                format!("addr add 10.8{subnet}.0.{number}/24 dev {network}"),
                format!("addr add fd8{subnet}::{number}/64 dev {network} nodad"),
            ])?;
            switch.configure(&[
                format!("link set {peer} master {network}"),
                format!("link set {peer} up"),
            ])?;
            netns.set_sysctl(&format!("net.ipv4.conf.{network}.rp_filter"), "0")?;
        }
        for key in ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.lo.rp_filter"] {
            netns.set_sysctl(key, "0")?;
        }
        netns.configure(&["link set lo up"])?;
        Ok(Self {
            tfo: Tfo::new(&netns),
            netns,
            number,
        })
    }

    fn hop(&self, subnet: usize, family: Family) -> String {
        hop(self.number, subnet, family)
    }

    /// Its MAC address in the network in front.
    pub(crate) fn mac(&self) -> Result<[u8; 6]> {
        let last = u8::from_str_radix(&self.number.to_string(), 16)?;
        Ok([2, 0, 0, 0, 1, last])
    }

    /// A counter of its data path.
    pub(crate) fn count(&self, counter: Counter) -> Result<i64> {
        Ok(self.tfo.stats()?.counters[counter.name()])
    }
}

pub(crate) struct Farm {
    pub(crate) client: Member,
    pub(crate) edges: Vec<Member>,
    pub(crate) hosts: Vec<Member>,
    pub(crate) secret: KeyFile,
    /// The bridges `front` and `back`.
    pub(crate) switch: Netns,
}

const CLIENT: usize = 2;
pub(crate) const FIRST_EDGE: usize = 11;
const FIRST_HOST: usize = 21;
pub(crate) const FORWARDING: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
/// Addresses behind the client.
const STRANGERS: &str = "11.0.0.0/8";

impl Farm {
    pub(crate) fn new(edges: usize, hosts: usize) -> Result<Self> {
        let switch = Netns::new("switch")?;
        for network in ["front", "back"] {
            switch.configure(&[
                format!("link add {network} type bridge"),
                format!("link set {network} up"),
            ])?;
        }
        let both = ["front", "back"];
        let edge = |at| Member::new("edge", FIRST_EDGE + at, &switch, &both);
        let host = |at| Member::new("host", FIRST_HOST + at, &switch, &both);
        let farm = Self {
            client: Member::new("client", CLIENT, &switch, &["front"])?,
            edges: (0..edges).map(edge).collect::<Result<_>>()?,
            hosts: (0..hosts).map(host).collect::<Result<_>>()?,
            secret: KeyFile::new(SECRET)?,
            switch,
        };
        farm.client
            .netns
            .set_sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
        farm.client
            .netns
            .set_sysctl("net.ipv6.fib_multipath_hash_policy", "1")?;
        let all: Vec<_> = farm.edges.iter().collect();
        if !all.is_empty() {
            farm.route(&all)?;
        }
        for edge in &farm.edges {
            farm.set_up_edge(edge)?;
        }
        for host in &farm.hosts {
            host.netns.configure(&[
                format!("addr add {} dev lo", Family::V4.vip()),
                format!("addr add {} dev lo nodad", Family::V6.vip()),
            ])?;
            host.netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
            host.netns.configure(&way_to_client())?;
        }
        Ok(farm)
    }

    /// As [`Self::new`], with one key for all, hosts that take answers, and edges that challenge.
    pub(crate) fn guarded(edges: usize, hosts: usize, mode: &str) -> Result<Self> {
        let farm = Self::new(edges, hosts)?;
        farm.share_key(keys::COUNTING)?;
        farm.guard_hosts()?;
        farm.guard_edges(mode)?;
        Ok(farm)
    }

    /// Has the client reach the service by these edges.
    pub(crate) fn route(&self, edges: &[&Member]) -> Result<()> {
        let numbers: Vec<_> = edges.iter().map(|edge| edge.number).collect();
        self.route_by(&numbers)
    }

    /// As [`Self::route`], by edges of these numbers.
    pub(crate) fn route_by(&self, edges: &[usize]) -> Result<()> {
        for family in Family::BOTH {
            let hops: Vec<_> = edges.iter().map(|edge| hop(*edge, 1, family)).collect();
            let route = format!("route replace {} {}", family.vip(), hops.join(" "));
            self.client.netns.configure(&[route])?;
        }
        Ok(())
    }

    fn set_up_edge(&self, edge: &Member) -> Result<()> {
        for key in FORWARDING {
            edge.netns.set_sysctl(key, "1")?;
        }
        for version in ["ipv4", "ipv6"] {
            let key = format!("net.{version}.fib_multipath_hash_policy");
            edge.netns.set_sysctl(&key, "1")?;
        }
        edge.netns.configure(&self.routes_of_edge())
    }

    /// Commands for an edge: the routes to the hosts, and the next hops, to the client, too. An edge challenges only for
    /// hosts whose addresses it knows: with these, from the first SYN on.
    pub(crate) fn routes_of_edge(&self) -> Vec<String> {
        let routes = Family::BOTH.map(|family| {
            let hops: Vec<_> = self.hosts.iter().map(|host| host.hop(2, family)).collect();
            format!("route add {} {}", family.vip(), hops.join(" "))
        });
        let hosts = self.hosts.iter().flat_map(|host| {
            let number = host.number;
            let mac = format!("lladdr 02:00:00:00:02:{number:02} dev back nud permanent");
            [
                format!("neigh replace 10.82.0.{number} {mac}"),
                format!("neigh replace fd82::{number} {mac}"),
            ]
        });
        routes
            .into_iter()
            .chain(hosts)
            .chain(way_to_client())
            .collect()
    }

    /// Gives all edges and hosts this key, as a farm has one.
    pub(crate) fn share_key(&self, key: &str) -> Result<()> {
        let members = self.edges.iter().chain(&self.hosts);
        for member in members {
            member.netns.set_sysctl("net.ipv4.tcp_fastopen_key", key)?;
        }
        Ok(())
    }

    /// Has the hosts take the answers to the edges' challenges.
    pub(crate) fn guard_hosts(&self) -> Result<()> {
        for host in &self.hosts {
            host.tfo.done(&["attach", "back", "--mode", "tc"])?;
            self.guard_host(host, None)?;
        }
        Ok(())
    }

    /// As [`Self::guard_hosts`], at one host whose clock is `ahead` nanoseconds ahead.
    pub(crate) fn guard_host(&self, host: &Member, ahead: Option<i64>) -> Result<()> {
        let mut command = std::process::Command::new(tfo::binary());
        command.args(["guard", "set", "off", "--port", &PORT.to_string()]);
        command.args([
            "--secret-file",
            self.secret.path(),
            "--netns",
            host.netns.name(),
        ]);
        command.envs(ahead.map(|ahead| ("TFO_TEST_CLOCK_AHEAD", ahead.to_string())));
        process::succeed(&mut command, LIMIT).map(drop)
    }

    /// Has the edges challenge all that brings no valid cookie.
    pub(crate) fn guard_edges(&self, mode: &str) -> Result<()> {
        for edge in &self.edges {
            edge.tfo.done(&["attach", "front", "--mode", mode])?;
            self.guard_edge(edge, &[])?;
        }
        Ok(())
    }

    pub(crate) fn guard_edge(&self, edge: &Member, terms: &[&str]) -> Result<()> {
        let [v4, v6] = Family::BOTH.map(|family| family.vip().to_string());
        let port = PORT.to_string();
        let set = [
            "guard", "set", "on", "--port", &port, "--vip", &v4, "--vip", &v6,
        ];
        let secret = ["--secret-file", self.secret.path()];
        edge.tfo
            .done(&[&set[..], &secret, terms].concat())
            .map(drop)
    }

    /// Runs `work` while each host answers every request with its number.
    pub(crate) fn serving<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let listeners = self.hosts.iter().map(|host| {
            let any = SocketAddr::new(IpAddr::V6(0.into()), PORT);
            let listener = Listener::fast_open(&host.netns, any)?;
            Ok((host.number.to_string(), listener))
        });
        answering(listeners.collect::<Result<Vec<_>>>()?, work)
    }

    /// Connects to the service. Gives the connection and the number of the host that answered.
    pub(crate) fn ask(&self, family: Family, method: Method) -> Result<(Connection, String)> {
        let connection = Connection::open(&self.client.netns, service(family), method, REQUEST)?;
        let host = say(&connection)?;
        Ok((connection, host))
    }

    /// The hosts that answered `count` connections, and how many had their data taken in the SYN.
    pub(crate) fn ask_often(
        &self,
        family: Family,
        method: Method,
        count: usize,
    ) -> Result<(BTreeSet<String>, usize)> {
        let mut hosts = BTreeSet::new();
        let mut taken = 0;
        for number in 0..count {
            let (connection, host) = self
                .ask(family, method)
                .with_context(|| format!("{family}, connection {number}"))?;
            taken += usize::from(connection.info()?.syn_data_taken);
            hosts.insert(host);
        }
        Ok((hosts, taken))
    }
}

/// Has an edge send all flows to one host.
pub(crate) fn send_to(edge: &Member, host: &Member) -> Result<()> {
    for family in Family::BOTH {
        let route = format!("route replace {} {}", family.vip(), host.hop(2, family));
        edge.netns.configure(&[route])?;
    }
    Ok(())
}

/// Commands for the way to the client, and to the strangers behind it: the guard answers by next hops that the kernel knows.
fn way_to_client() -> [String; 3] {
    let mac = format!("lladdr 02:00:00:00:01:{CLIENT:02} dev front nud permanent");
    [
        format!("neigh replace 10.81.0.{CLIENT} {mac}"),
        format!("neigh replace fd81::{CLIENT} {mac}"),
        format!("route add {STRANGERS} via 10.81.0.{CLIENT}"),
    ]
}

/// The options of a route by the member of this number, in the network `subnet`.
fn hop(number: usize, subnet: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("nexthop via 10.8{subnet}.0.{number}"),
        Family::V6 => format!("nexthop via fd8{subnet}::{number}"),
    }
}

/// The answer to a request that was sent.
pub(crate) fn say(connection: &Connection) -> Result<String> {
    let answer = connection.receive()?;
    ensure!(!answer.is_empty(), "the connection ended without an answer");
    Ok(String::from_utf8(answer)?)
}
