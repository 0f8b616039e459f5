//! Random SYNs, and what policies make of them.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use tfo_common::policy::{Action, Class};
use tfo_testbed::{
    packet::{Segment, cookie, experimental, fast_open},
    program::KeyBytes,
};

use crate::flow::{BACKUP, PRIMARY};

const CLIENTS: [&str; 8] = [
    "192.0.2.7",
    "192.0.2.8",
    "192.0.3.7",
    "10.1.2.3",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:0:1::1",
    "fd00::1",
];
const SERVERS: [&str; 2] = ["198.51.100.2", "fd77::1"];
/// Two ports that may have a rule, and one without.
pub(crate) const PORTS: [u16; 3] = [443, 8443, 80];

/// A SYN, by the fields that policies match.
pub(crate) struct Case {
    pub(crate) client: IpAddr,
    pub(crate) port: u16,
    /// The option's cookie and class; `None` without an option.
    option: Option<(Vec<u8>, Class)>,
    experimental: bool,
    /// A cookie request precedes the option.
    twice: bool,
    /// Options before the Fast Open option, and their bytes behind it.
    before: Vec<u8>,
    behind: usize,
    pub(crate) data: usize,
}

impl Case {
    pub(crate) fn random(random: &mut Rng) -> Self {
        let client: IpAddr = CLIENTS[random.usize(..CLIENTS.len())].parse().unwrap();
        let server = server_of(client);
        let option = match random.u8(..9) {
            0 => None,
            1 | 2 => Some((vec![], Class::Request)),
            3 => Some((
                vec![7; *random.choice(&[4, 6, 10, 16]).unwrap()],
                Class::Bad,
            )),
            4 | 5 => Some((random.u64(..).to_le_bytes().to_vec(), Class::Bad)),
            key => {
                let key: KeyBytes = if key == 6 { BACKUP } else { PRIMARY };
                Some((cookie(&key, client, server).to_vec(), Class::Valid))
            }
        };
        let mut before = vec![1; random.usize(..4)];
        if random.bool() {
            before.extend_from_slice(b"\x02\x04\x05\xb4");
        }
        Self {
            client,
            port: PORTS[random.usize(..PORTS.len())],
            option,
            experimental: random.bool(),
            twice: random.u8(..10) == 0,
            before,
            behind: random.usize(..4),
            data: *random.choice(&[0, 1, 100, 1000]).unwrap(),
        }
    }

    pub(crate) fn class(&self) -> Option<Class> {
        match &self.option {
            Some((_, class)) => Some(*class),
            None if self.data > 0 => Some(Class::Data),
            None => None,
        }
    }

    pub(crate) fn several(&self) -> bool {
        self.twice && self.option.is_some()
    }

    /// The frame after `action` on its option.
    pub(crate) fn frame(&self, action: Action) -> Vec<u8> {
        let mut options = self.before.clone();
        if let Some((cookie, _)) = &self.option {
            if self.twice {
                options.extend_from_slice(&fast_open(b""));
            }
            let option = |cookie: &[u8]| {
                if self.experimental {
                    experimental(cookie)
                } else {
                    fast_open(cookie)
                }
            };
            let whole = option(cookie);
            let kept = match action {
                Action::Reissue => option(b""),
                Action::Fallback => bytes::Bytes::new(),
                Action::Pass | Action::Drop | Action::Once => whole.clone(),
            };
            options.extend_from_slice(&kept);
            options.resize(options.len() + whole.len() - kept.len(), 1);
        }
        options.resize(options.len() + self.behind, 1);
        let from = SocketAddr::new(self.client, 50_000);
        let to = SocketAddr::new(server_of(self.client), self.port);
        Segment::syn(from, to)
            .options(&options)
            .data(&vec![b'x'; self.data])
            .frame()
            .to_vec()
    }
}

fn server_of(client: IpAddr) -> IpAddr {
    SERVERS[usize::from(client.is_ipv6())].parse().unwrap()
}
