//! A forwarder in user space that delays frames.
//!
//! The forwarder runs in its own namespace between two veth pairs. A frame from veth may have a partial checksum
//! (`CHECKSUM_PARTIAL`), which the forwarder completes as a NIC would.

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
    poll::Deadline,
};

const TO_CLIENT: &str = "to-client";
const TO_SERVER: &str = "to-server";
/// Interval at which the forwarder checks its stop flag.
const TURN: Duration = Duration::from_millis(50);

/// A delay line between two hosts, for IPv4 and IPv6 frames. Stops on drop.
#[derive(Debug)]
pub struct Line {
    one_way: Duration,
    stop: Arc<AtomicBool>,
    forwarder: Option<JoinHandle<()>>,
    /// The forwarder's namespace.
    netns: Netns,
}

impl Line {
    /// Creates one interface in each namespace, and the line between them with a delay of `one_way`.
    ///
    /// # Errors
    ///
    /// The caller lacks privileges, or `ip` is not installed.
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
            // Sockets of one protocol receive incoming frames only, so not the line's own.
            ends.push([
                LinkSocket::open(&netns, end, Frames::Ipv4)?,
                LinkSocket::open(&netns, end, Frames::Ipv6)?,
            ]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let forwarder = thread::spawn(move || {
            if let Err(error) = forward(&ends, one_way, &stopped) {
                eprintln!("the delay line stopped: {error}");
            }
        });
        Ok(Self {
            one_way,
            stop,
            forwarder: Some(forwarder),
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

    /// Delay per frame and direction.
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

/// A delayed frame.
struct Held<'a> {
    due: Instant,
    to: &'a LinkSocket,
    bytes: Vec<u8>,
}

/// Forwards frames between the two `ends` until `stop`.
fn forward(ends: &[[LinkSocket; 2]], one_way: Duration, stop: &AtomicBool) -> io::Result<()> {
    let sockets: Vec<_> = ends.iter().flatten().collect();
    let mut held = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        // The delay is constant, so frames are due in order of arrival.
        while held
            .front()
            .is_some_and(|frame: &Held<'_>| frame.due <= now)
        {
            if let Some(Held { to, bytes, .. }) = held.pop_front() {
                // Errors are frame loss: the host's interface may be gone.
                drop(to.send(&bytes));
            }
        }
        let next = held.front().map_or(TURN, |frame| frame.due - now);
        if !wait(&sockets, Deadline::at(now + next.min(TURN)))? {
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

/// A queued frame, without waiting; `None` also if the interface is down.
fn receive(socket: &LinkSocket) -> io::Result<Option<Vec<u8>>> {
    match socket.receive(Duration::ZERO) {
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
        other => other,
    }
}

/// Completes a TCP checksum that the sender left to checksum offload.
fn complete_checksum(frame: &mut [u8]) {
    if let Some((at, checksum)) = checksum(frame)
        && let Some(field) = frame.get_mut(at..at + 2)
    {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Offset and value of the TCP checksum of `frame`.
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
