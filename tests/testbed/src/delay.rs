//! A wire with a length: a forwarder in user space that holds every frame for a while.
//!
//! It stands in a namespace of its own between two veth pairs. A veth frame may carry a checksum that
//! is left to the network card; the line is the card here, and writes it.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::{
    link::{Frames, LinkSocket, wait},
    netns::{Netns, wait_until_up},
};

const TO_CLIENT: &str = "to-client";
const TO_SERVER: &str = "to-server";
/// How often the forwarder looks whether it is to end.
const TURN: Duration = Duration::from_millis(50);

/// A line between two hosts. It stops on drop.
#[derive(Debug)]
pub struct Line {
    one_way: Duration,
    stop: Arc<AtomicBool>,
    forwarder: Option<JoinHandle<()>>,
    /// The namespace that the line stands in.
    netns: Netns,
}

impl Line {
    /// Makes both interfaces, each in its namespace, and the line between them.
    ///
    /// # Errors
    ///
    /// Where the caller may not, or `ip` is not installed.
    pub fn between(
        (client, client_interface): (&Netns, &str),
        (server, server_interface): (&Netns, &str),
        one_way: Duration,
    ) -> Result<Self> {
        let netns = Netns::new("line")?;
        netns.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let mut ends = Vec::new();
        for (end, peer, interface) in [
            (TO_CLIENT, client, client_interface),
            (TO_SERVER, server, server_interface),
        ] {
            let peer = peer.name();
            netns.configure(&[
                format!("link add {end} type veth peer name {interface} netns {peer}"),
                format!("link set {end} up"),
            ])?;
            // Each takes what arrives, and not what the line itself sends there.
            ends.push([
                LinkSocket::open(&netns, end, Frames::Ipv4)?,
                LinkSocket::open(&netns, end, Frames::Ipv6)?,
            ]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let forwarder = thread::spawn(move || {
            if let Err(error) = forward(&ends, one_way, &stopped) {
                eprintln!("the delay line broke: {error}");
            }
        });
        Ok(Self {
            one_way,
            stop,
            forwarder: Some(forwarder),
            netns,
        })
    }

    /// Waits until both ends send what they are given.
    ///
    /// # Errors
    ///
    /// As [`wait_until_up`].
    pub fn wait_until_up(&self) -> Result<()> {
        wait_until_up(&self.netns, TO_CLIENT)?;
        wait_until_up(&self.netns, TO_SERVER)
    }

    /// How long it holds a frame.
    pub const fn one_way(&self) -> Duration {
        self.one_way
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(forwarder) = self.forwarder.take() {
            drop(forwarder.join());
        }
    }
}

/// A frame on its way.
struct Held<'a> {
    due: Instant,
    to: &'a LinkSocket,
    bytes: Vec<u8>,
}

/// Carries frames between the two `ends` until told to stop.
fn forward(ends: &[[LinkSocket; 2]], one_way: Duration, stop: &AtomicBool) -> io::Result<()> {
    let sockets: Vec<_> = ends.iter().flatten().collect();
    let mut held = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        // Every frame is held equally long, so the first in is the first due.
        while held
            .front()
            .is_some_and(|frame: &Held<'_>| frame.due <= now)
        {
            if let Some(Held { to, bytes, .. }) = held.pop_front() {
                // A host that is going away takes no frames: they are lost, as on any wire.
                drop(to.send(&bytes));
            }
        }
        let next = held.front().map_or(TURN, |frame| frame.due - now);
        if !wait(&sockets, next.min(TURN))? {
            continue;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            for (socket, opposite) in ends[from].iter().zip(&ends[to]) {
                while let Some(mut bytes) = receive(socket)? {
                    let due = Instant::now() + one_way;
                    complete_checksum(&mut bytes);
                    held.push_back(Held {
                        due,
                        to: opposite,
                        bytes,
                    });
                }
            }
        }
    }
    Ok(())
}

/// A frame that is there already. An interface that went down has none.
fn receive(socket: &LinkSocket) -> io::Result<Option<Vec<u8>>> {
    match socket.receive(Duration::ZERO) {
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
        other => other,
    }
}

/// Writes a TCP segment's checksum, which the sender may have left to the network card.
fn complete_checksum(frame: &mut [u8]) {
    if let Some((at, checksum)) = checksum(frame)
        && let Some(field) = frame.get_mut(at..at + 2)
    {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Where the checksum of the TCP segment in `frame` belongs, and what it is.
fn checksum(frame: &[u8]) -> Option<(usize, u16)> {
    const CHECKSUM: usize = 16;
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let TransportSlice::Tcp(tcp) = packet.transport? else {
        return None;
    };
    let checksum = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            tcp.calc_checksum_ipv4(header.source(), header.destination())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            tcp.calc_checksum_ipv6(header.source(), header.destination())
        }
        NetSlice::Arp(_) => return None,
    };
    Some((frame.len() - tcp.slice().len() + CHECKSUM, checksum.ok()?))
}
