//! SYNs that the kernel delivers to no socket of the server.

use std::net::{IpAddr, SocketAddr};

use crate::veth::{Family, Mac, NOBODYS_MAC};

/// Why the kernel drops the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is for another device.
    Mac(Mac),
    /// Its source address is none that a packet may have.
    Source(IpAddr),
    /// Its destination is no address of the server, which does not forward.
    Destination(IpAddr),
    /// The checksum of its IPv4 header is wrong.
    HeaderChecksum,
}

const BROADCAST: Mac = [0xff; 6];
const MULTICAST: Mac = [1, 0, 0x5e, 0, 0, 1];
const MACS: [Mac; 3] = [NOBODYS_MAC, BROADCAST, MULTICAST];

/// Offset of the header checksum in a frame.
const CHECKSUM: usize = 24;

/// Sources and destinations.
const fn addresses(family: Family) -> [&'static [&'static str]; 2] {
    match family {
        Family::V4 => [
            &[
                "0.0.0.0",
                "10.77.0.1",
                "10.77.0.255",
                "127.0.0.1",
                "224.0.0.1",
                "255.255.255.255",
            ],
            &[
                "10.77.0.77",
                "10.77.0.255",
                "127.0.0.1",
                "192.0.2.1",
                "224.0.0.1",
                "255.255.255.255",
            ],
        ],
        Family::V6 => [
            &["::1", "ff02::1"],
            &["::1", "fd77::77", "2001:db8::1", "ff02::1"],
        ],
    }
}

impl Foreign {
    pub(super) fn random(random: &mut fastrand::Rng, family: Family) -> Self {
        let [sources, destinations] = addresses(family);
        let mut one = |of: &[&str]| of[random.usize(..of.len())].parse().expect("an address");
        let (source, destination) = (one(sources), one(destinations));
        match random.u8(..4) {
            0 => Self::Source(source),
            1 => Self::Destination(destination),
            2 if family == Family::V4 => Self::HeaderChecksum,
            _ => Self::Mac(MACS[random.usize(..MACS.len())]),
        }
    }

    /// Changes the ends of a connection.
    pub(super) const fn redirect(self, client: &mut SocketAddr, server: &mut SocketAddr) {
        match self {
            Self::Source(source) => client.set_ip(source),
            Self::Destination(destination) => server.set_ip(destination),
            Self::Mac(_) | Self::HeaderChecksum => {}
        }
    }

    /// Changes a frame.
    pub(super) fn spoil(self, frame: &mut [u8]) {
        match self {
            Self::Mac(mac) => frame[..mac.len()].copy_from_slice(&mac),
            Self::HeaderChecksum => frame[CHECKSUM] ^= 1,
            Self::Source(_) | Self::Destination(_) => {}
        }
    }
}
