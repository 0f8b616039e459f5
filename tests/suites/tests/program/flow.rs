//! Clients, servers and keys of the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tfo_common::counters::Counter;
use tfo_testbed::{
    packet::{self, Segment},
    program::{Counted, KeyBytes},
};

/// The server's primary and backup key.
pub(crate) const PRIMARY: KeyBytes = *b"a primary key...";
pub(crate) const BACKUP: KeyBytes = *b"a backup key....";

pub(crate) const SERVER_PORT: u16 = 443;
const CLIENT_PORT: u16 = 50_000;

/// A client and a server address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
}

pub(crate) const V4: Flow = Flow {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    server: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
};

pub(crate) const V6: Flow = Flow {
    client: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6)),
    server: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 8, 9, 10, 11, 12)),
};

pub(crate) const FLOWS: [Flow; 2] = [V4, V6];

impl Flow {
    /// The addresses and ports of client and server.
    pub(crate) fn ends(self, port: u16) -> (SocketAddr, SocketAddr) {
        let client = SocketAddr::new(self.client, CLIENT_PORT);
        (client, SocketAddr::new(self.server, port))
    }

    /// A SYN to the server's port.
    pub(crate) fn syn(self) -> Segment {
        let (client, server) = self.ends(SERVER_PORT);
        Segment::syn(client, server)
    }

    /// A segment with these flags to the server's port.
    pub(crate) fn segment(self, flags: u8) -> Segment {
        let (client, server) = self.ends(SERVER_PORT);
        Segment::new(client, server, flags)
    }

    /// The client's cookie under `key`.
    pub(crate) fn cookie(self, key: &KeyBytes) -> [u8; 8] {
        packet::cookie(key, self.client, self.server)
    }
}

/// Expected counts of a SYN to the server's port: `counters`, the SYN and its data.
pub(crate) fn syn_counts(counters: &[Counter], data: &[u8]) -> Counted {
    Counted::syn(SERVER_PORT, counters, data)
}

/// Expected counts of a frame that is not parsed.
pub(crate) fn unparsed() -> Counted {
    Counted::at_no_port(&[(Counter::Unparsed, 1)])
}
