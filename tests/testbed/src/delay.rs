//! A delay line between two hosts, in a namespace of its own between two veth pairs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tfo_userspace::demo::{DelayLine, LineEnd, Middlebox};

use crate::netns::{Netns, wait_until_up};

const TO_CLIENT: &str = "to-client";
const TO_SERVER: &str = "to-server";

/// A delay line between two hosts, for IPv4 and IPv6 frames. Stops on drop.
#[derive(Debug)]
pub struct Line {
    /// Declared first: its sockets are of the namespace.
    _line: DelayLine,
    netns: Netns,
}

impl Line {
    /// Creates one interface in each namespace, and the line between them with a delay of `one_way` and a middlebox, whose end 0
    /// is the client's.
    ///
    /// # Errors
    ///
    /// The caller lacks privileges, or `ip` is not installed.
    pub fn between(
        (client, client_interface): (&Netns, &str),
        (server, server_interface): (&Netns, &str),
        one_way: Duration,
        middlebox: Middlebox,
    ) -> Result<Self> {
        let netns = Netns::new("line")?;
        netns.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        for (end, peer, interface) in [
            (TO_CLIENT, client, client_interface),
            (TO_SERVER, server, server_interface),
        ] {
            let peer = peer.name();
            netns.configure(&[
                format!("link add {end} type veth peer name {interface} netns {peer}"),
                format!("link set {end} up"),
            ])?;
        }
        let [client, server] =
            [TO_CLIENT, TO_SERVER].map(|end| netns.run(|| LineEnd::open(end)).context(end));
        Ok(Self {
            _line: DelayLine::start_through([client?, server?], one_way, middlebox),
            netns,
        })
    }

    /// Waits until both ends can send.
    ///
    /// # Errors
    ///
    /// As [`wait_until_up`].
    pub fn wait_until_up(&self) -> Result<()> {
        wait_until_up(&self.netns, TO_CLIENT)?;
        wait_until_up(&self.netns, TO_SERVER)
    }
}
