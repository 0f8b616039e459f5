//! A client and a server in network namespaces of this process's own, with a delay line between them. Nothing here has a name
//! that another process could meet, and nothing outlives the process.

use std::{fs, io, os::fd::AsFd as _, time::Duration};

use super::{
    error::DemoError,
    family::{Family, IPV6},
    line::{DelayLine, LineEnd},
};
use crate::kernel::{
    netns::UnnamedNetns,
    sysctl::{TCP_FASTOPEN, TCP_FASTOPEN_BLACKHOLE_TIMEOUT},
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
    for (sysctl, value) in [
        (TCP_FASTOPEN, BOTH_SIDES),
        (TCP_FASTOPEN_BLACKHOLE_TIMEOUT, 0),
    ] {
        sysctl.set(value).map_err(io::Error::other)?;
    }
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
