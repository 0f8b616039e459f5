//! The connection attempts that the tests are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tfo_common::counters::Counter;
use tfo_testbed::{
    packet::{self, Segment},
    program::{Counted, KeyBytes},
};

/// The server's keys.
pub(crate) const PRIMARY: KeyBytes = *b"a primary key...";
pub(crate) const BACKUP: KeyBytes = *b"a backup key....";

pub(crate) const SERVER_PORT: u16 = 443;
const CLIENT_PORT: u16 = 50_000;

/// Who connects to whom.
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
    /// Both ends' addresses with ports.
    pub(crate) fn ends(self, port: u16) -> (SocketAddr, SocketAddr) {
        let client = SocketAddr::new(self.client, CLIENT_PORT);
        (client, SocketAddr::new(self.server, port))
    }

    /// A SYN to the server's port.
    pub(crate) fn syn(self) -> Segment {
        let (client, server) = self.ends(SERVER_PORT);
        Segment::syn(client, server)
    }

    /// Another segment to the server's port.
    pub(crate) fn segment(self, flags: u8) -> Segment {
        let (client, server) = self.ends(SERVER_PORT);
        Segment::new(client, server, flags)
    }

    /// The cookie that the server gives the client under `key`.
    pub(crate) fn cookie(self, key: &KeyBytes) -> [u8; 8] {
        packet::cookie(key, self.client, self.server)
    }
}

/// What a SYN to the server's port counts: these once each, itself, and its data.
pub(crate) fn syn_counts(counters: &[Counter], data: &[u8]) -> Counted {
    Counted::syn(SERVER_PORT, counters, data)
}

/// What a frame that was not read counts.
pub(crate) fn unparsed() -> Counted {
    Counted::at_no_port(&[(Counter::Unparsed, 1)])
}
