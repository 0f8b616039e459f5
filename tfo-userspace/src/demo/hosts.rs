//! A client and a server in network namespaces of this process's own, with a delay line between them. Nothing here has a name
//! that another process could meet, and nothing outlives the process.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    path::Path,
    time::Duration,
};

use super::{
    error::DemoError,
    line::{DelayLine, LineEnd},
};
use crate::kernel::{
    netns::UnnamedNetns,
    sysctl,
    veth::{self, VethEnd},
};

/// The interfaces of client and server, and those of the line that lead there.
const CLIENT: VethEnd<'_> = VethEnd {
    name: "client0",
    mac: [2, 0, 0, 0, 0, 1],
};
const SERVER: VethEnd<'_> = VethEnd {
    name: "server0",
    mac: [2, 0, 0, 0, 0, 2],
};
const TO_CLIENT: VethEnd<'_> = VethEnd {
    name: "to-client",
    mac: [2, 0, 0, 0, 0, 3],
};
const TO_SERVER: VethEnd<'_> = VethEnd {
    name: "to-server",
    mac: [2, 0, 0, 0, 0, 4],
};

/// The server's interface, to which the data path is attached.
pub(super) const SERVER_INTERFACE: &str = SERVER.name;

/// Fast Open for clients and for servers.
const BOTH_SIDES: u32 = 3;
/// Time that the kernel gets to bring an interface up.
const LIMIT: Duration = Duration::from_secs(30);
/// Does not exist where the kernel has no IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";
/// How long the client does without Fast Open after a connection that seemed to be stopped by a middlebox.
const BLACKHOLE: &str = "/proc/sys/net/ipv4/tcp_fastopen_blackhole_timeout_sec";

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// Those that this kernel has.
    pub(super) fn of_kernel() -> Vec<Self> {
        let mut all = vec![Self::V4];
        all.extend(Path::new(IPV6).exists().then_some(Self::V6));
        all
    }

    /// Addresses for documentation (RFC 5737, RFC 3849).
    const fn client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        }
    }

    pub(super) const fn server(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
        }
    }

    const fn prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The two hosts. Their interfaces go with them.
#[derive(Debug)]
pub(super) struct Hosts {
    _line: DelayLine,
    pub(super) client: UnnamedNetns,
    pub(super) server: UnnamedNetns,
}

impl Hosts {
    pub(super) fn create(one_way: Duration) -> Result<Self, DemoError> {
        let namespace = || UnnamedNetns::create().map_err(DemoError::Netns);
        let (client, line, server) = (namespace()?, namespace()?, namespace()?);
        let ends = line.run(|| {
            veth::create(&TO_CLIENT, &CLIENT, client.as_fd())?;
            veth::create(&TO_SERVER, &SERVER, server.as_fd())
        });
        ends.map_err(DemoError::Veth)?;
        for (host, this, peer) in [(&client, &CLIENT, &SERVER), (&server, &SERVER, &CLIENT)] {
            let configured = host.run(|| configure(this, peer));
            configured.map_err(DemoError::Configure)?;
        }
        let names = [TO_CLIENT.name, TO_SERVER.name];
        let up = line.run(|| names.into_iter().try_for_each(veth::set_up));
        up.map_err(DemoError::Configure)?;
        let ends = line.run(|| {
            let [client, server] = names.map(LineEnd::open);
            Ok([client?, server?])
        });
        let ends = ends.map_err(DemoError::Packets)?;
        for (host, names) in [
            (&client, [CLIENT.name].as_slice()),
            (&server, &[SERVER.name]),
            (&line, &names),
        ] {
            let mut names = names.iter();
            let up = host.run(|| names.try_for_each(|name| veth::wait_until_up(name, LIMIT)));
            up.map_err(DemoError::Configure)?;
        }
        Ok(Self {
            _line: DelayLine::start(ends, one_way),
            client,
            server,
        })
    }
}

/// Gives the calling thread's host its addresses, and tells it its peer's.
fn configure(this: &VethEnd<'_>, peer: &VethEnd<'_>) -> io::Result<()> {
    sysctl::TCP_FASTOPEN
        .set(BOTH_SIDES)
        .map_err(io::Error::other)?;
    fs::write(BLACKHOLE, "0")?;
    for family in Family::of_kernel() {
        if family == Family::V6 {
            // A host may have it off for all interfaces that come.
            let switch = format!("{IPV6}/conf/{}/disable_ipv6", this.name);
            fs::write(switch, "0")?;
        }
        let mut addresses = [family.client(), family.server()];
        if this.name == SERVER.name {
            addresses.reverse();
        }
        let [own, other] = addresses;
        veth::add_address(this.name, own, family.prefix())?;
        veth::set_neighbour(this.name, other, peer.mac)?;
    }
    veth::set_up(this.name)
}
