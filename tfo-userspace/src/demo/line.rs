//! A forwarder in user space between two interfaces, which delays frames: a distance without the kernel's netem.
//!
//! A frame from veth may have an unfinished checksum (`CHECKSUM_PARTIAL`), which the forwarder completes as a NIC would.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tfo_common::wire::{
    Frame as _,
    addresses::Addresses,
    checksum::{fold, pseudo_header},
    tcp,
};

use crate::kernel::packet_socket::{Frames, PacketSocket};

/// Interval at which the forwarder checks its stop flag.
const TURN: Duration = Duration::from_millis(50);

/// A delay line between two interfaces, for IPv4 and IPv6 frames. Stops on drop.
#[derive(Debug)]
pub struct DelayLine {
    stop: Arc<AtomicBool>,
    forwarder: Option<JoinHandle<()>>,
}

/// One end of a line: an interface's frames of IPv4, and those of IPv6.
#[derive(Debug)]
pub struct LineEnd([PacketSocket; 2]);

impl LineEnd {
    /// The end at `interface` of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::open`].
    pub fn open(interface: &str) -> io::Result<Self> {
        // Sockets of one protocol receive incoming frames only, so not the line's own.
        let [v4, v6] = [Frames::Ipv4, Frames::Ipv6].map(|it| PacketSocket::open(interface, it));
        Ok(Self([v4?, v6?]))
    }
}

/// A function on each frame of a line, with the index of the end that sent it: it may change the
/// frame; `false` drops it.
pub type Middlebox = Box<dyn FnMut(usize, &mut Vec<u8>) -> bool + Send>;

impl DelayLine {
    /// Forwards frames between both ends from now on, each after `one_way`.
    pub fn start(ends: [LineEnd; 2], one_way: Duration) -> Self {
        Self::start_through(ends, one_way, Box::new(|_, _| true))
    }

    /// As [`Self::start`], with a middlebox in between.
    pub fn start_through(ends: [LineEnd; 2], one_way: Duration, mut middlebox: Middlebox) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let forwarder = thread::spawn(move || {
            if let Err(error) = forward(&ends, one_way, &mut middlebox, &stopped) {
                eprintln!("the delay line stopped: {error}");
            }
        });
        Self {
            stop,
            forwarder: Some(forwarder),
        }
    }
}

impl Drop for DelayLine {
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
    to: &'a PacketSocket,
    bytes: Vec<u8>,
}

/// Forwards frames between the two `ends` until `stop`.
fn forward(
    ends: &[LineEnd; 2],
    one_way: Duration,
    middlebox: &mut Middlebox,
    stop: &AtomicBool,
) -> io::Result<()> {
    let sockets = ends.iter().flat_map(|end| &end.0);
    let sockets: Vec<_> = sockets.map(PacketSocket::as_fd).collect();
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
        if !wait(&sockets, next.min(TURN))? {
            continue;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            for (socket, opposite) in ends[from].0.iter().zip(&ends[to].0) {
                while let Some(mut bytes) = receive(socket)? {
                    let due = Instant::now() + one_way;
                    if !middlebox(from, &mut bytes) {
                        continue;
                    }
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

/// Waits until one of `sockets` has a frame; `false` if none has by then.
fn wait(sockets: &[BorrowedFd<'_>], limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let waiting = sockets.iter();
    let mut waiting: Vec<_> = waiting
        .map(|socket| PollFd::from_borrowed_fd(*socket, PollFlags::IN))
        .collect();
    match poll(&mut waiting, Some(&limit)) {
        Err(Errno::INTR) => Ok(false),
        ready => Ok(ready? > 0),
    }
}

/// A queued frame, without waiting; `None` also if the interface is down.
fn receive(socket: &PacketSocket) -> io::Result<Option<Vec<u8>>> {
    match socket.receive() {
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

/// Offset and value of the TCP checksum of an Ethernet frame; `None` for one without TCP right behind its IP header.
fn checksum(frame: &[u8]) -> Option<(usize, u16)> {
    const NETWORK: usize = 14;
    let half = |at| Some(usize::from(u16::from_be_bytes(frame.bytes(at)?)));
    let [version] = frame.bytes(NETWORK)?;
    let (protocol, addresses, from, to) = match version >> 4 {
        4 => {
            let addresses = Addresses::v4(frame.bytes(NETWORK + 12)?, frame.bytes(NETWORK + 16)?);
            let header = usize::from(version & 0xf) * 4;
            let (from, to) = (NETWORK + header, NETWORK + half(NETWORK + 2)?);
            (frame.get(NETWORK + 9)?, addresses, from, to)
        }
        6 => {
            let addresses = Addresses::v6(frame.bytes(NETWORK + 8)?, frame.bytes(NETWORK + 24)?);
            let from = NETWORK + 40;
            (
                frame.get(NETWORK + 6)?,
                addresses,
                from,
                from + half(NETWORK + 4)?,
            )
        }
        _ => return None,
    };
    let segment = frame.get(from..to)?;
    if *protocol != tcp::PROTOCOL || segment.len() < tcp::MIN_HEADER_LEN {
        return None;
    }
    let words = segment.chunks(2).enumerate().map(|(index, word)| {
        let [high, low] = [word[0], word.get(1).copied().unwrap_or(0)];
        // The field itself does not count.
        let counts = index * 2 != tcp::CHECKSUM;
        u32::from(counts) * u32::from(u16::from_be_bytes([high, low]))
    });
    let pseudo = pseudo_header(&addresses, segment.len() as u32);
    let sum = words.sum::<u32>() + u32::from(pseudo);
    Some((from + tcp::CHECKSUM, !fold(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the pseudo-header and of the segment, added up one by one.
    fn naive(source: &[u8], destination: &[u8], segment: &[u8]) -> u16 {
        let length = (segment.len() as u16).to_be_bytes();
        let all = [source, destination, &[0, 6], &length, segment].concat();
        let mut sum: u32 = all
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// A segment of an odd length whose checksum field holds something else.
    fn segment() -> Vec<u8> {
        let mut segment: Vec<u8> = (0..23_u8)
            .map(|it| it.wrapping_mul(73).wrapping_add(5))
            .collect();
        segment[16..18].copy_from_slice(&[0xab, 0xcd]);
        segment
    }

    fn without_field() -> Vec<u8> {
        let mut segment = segment();
        segment[16..18].fill(0);
        segment
    }

    #[test]
    fn checksums_are_completed_for_both_families() {
        let (from4, to4) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let segment = segment();
        let mut frame = vec![0; 14];
        let total = (20 + segment.len() as u16).to_be_bytes();
        frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([from4, to4].concat());
        frame.extend(&segment);
        // Padding of a short frame does not count.
        frame.extend([0xff; 3]);
        complete_checksum(&mut frame);
        let expected = naive(&from4, &to4, &without_field()).to_be_bytes();
        assert_eq!(frame[14 + 20 + 16..][..2], expected);

        let (from6, to6) = ([0x20; 16], [0x31; 16]);
        let mut frame = vec![0; 14];
        frame.extend([0x60, 0, 0, 0, 0, segment.len() as u8, 6, 64]);
        frame.extend([from6, to6].concat());
        frame.extend(&segment);
        complete_checksum(&mut frame);
        let expected = naive(&from6, &to6, &without_field()).to_be_bytes();
        assert_eq!(frame[14 + 40 + 16..][..2], expected);
    }

    #[test]
    fn other_frames_stay_as_they_are() {
        let mut udp = vec![0; 14];
        udp.extend([0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0]);
        udp.extend([7; 36]);
        let mut cut = udp.clone();
        cut[14 + 9] = 6;
        cut.truncate(50);
        for frame in [udp, cut, vec![], vec![0x45; 15]] {
            let mut completed = frame.clone();
            complete_checksum(&mut completed);
            assert_eq!(completed, frame);
        }
    }
}
