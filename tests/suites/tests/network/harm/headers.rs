//! SYNs with random options in the IPv4 header or in IPv6 extension headers: what the kernel drops, `tfo` does not count.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use fastrand::Rng;
use tfo_common::counters::Counter;
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, fast_open, linux_options},
    poll::eventually,
    seed::rng,
    socket::Listener,
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair},
    xdp::Mode,
};

const PORT: u16 = 9000;
const LIMIT: Duration = Duration::from_secs(20);
/// SYNs with each hook and IP version.
const SYNS: u16 = 1500;
/// SYNs that a listener's queue has room for.
const BATCH: u16 = 60;

#[test]
fn random_options_count_as_the_kernel_counts_them() -> Result<()> {
    let mut random = rng()?;
    for mode in Mode::ALL {
        let name = mode.to_string();
        let testbed = Testbed::attach(Pair::new()?, &["--mode", &name])?;
        for family in Family::BOTH {
            let taken = send(&testbed, family, &mut random).context(name.clone())?;
            ensure!(
                taken > 100 && taken + 100 < SYNS.into(),
                "{family:?}: {taken} of {SYNS} taken"
            );
        }
    }
    Ok(())
}

/// Sends random requests for a cookie, and compares after each batch. Gives how many the kernel took.
fn send(testbed: &Testbed, family: Family, random: &mut Rng) -> Result<u64> {
    let server = SocketAddr::new(family.server(), PORT);
    testbed.pair.set_neighbour(family.spare(1), NOBODYS_MAC)?;
    let mut taken = 0;
    for first in (0..SYNS).step_by(BATCH.into()) {
        let frames: Vec<_> = (first..first + BATCH)
            .map(|number| {
                let syn = Segment::syn(SocketAddr::new(family.spare(1), 10_000 + number), server);
                let request = syn.options(&linux_options(&fast_open(b"")));
                with_options(request, family, random).frame()
            })
            .collect();
        let [ours, kernel] = count(testbed, family, &frames)?;
        if ours != kernel {
            for frame in frames {
                let [ours, kernel] = count(testbed, family, std::slice::from_ref(&frame))?;
                ensure!(
                    ours == kernel,
                    "tfo {ours}, the kernel {kernel}: {frame:02x?}"
                );
            }
            bail!("{ours} of a batch, the kernel {kernel}, but no single frame differs");
        }
        taken += kernel;
    }
    Ok(taken)
}

/// Sends these to a new listener. Gives how many requests `tfo` counts, and the kernel.
fn count(testbed: &Testbed, family: Family, frames: &[Bytes]) -> Result<[u64; 2]> {
    let pair = &testbed.pair;
    let address = SocketAddr::new(family.unspecified(), PORT);
    let mut listener = None;
    // A process that another test starts has the last listener's file until it runs its program.
    eventually("the port is free", LIMIT, || {
        listener = Listener::fast_open(&pair.server, address).ok();
        Ok(listener.is_some())
    })?;
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
    let counters = || {
        let ours = testbed.drift()?.ours.total.get(Counter::CookieReqd);
        anyhow::Ok([
            ours,
            TcpExt::read(&pair.server)?.get("TCPFastOpenCookieReqd"),
        ])
    };
    let before = counters()?;
    for frame in frames {
        link.send(frame)?;
    }
    pair.barrier()?;
    let after = counters()?;
    Ok([after[0] - before[0], after[1] - before[1]])
}

fn with_options(syn: Segment, family: Family, random: &mut Rng) -> Segment {
    /// Protocol numbers of a hop-by-hop and a destination header.
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION: u8 = 60;
    match family {
        Family::V4 => syn.ipv4_options(&ipv4_options(random)),
        Family::V6 => {
            let mut syn = syn;
            if random.bool() {
                let options = ipv6_options(random);
                syn = syn.extension(HOP_BY_HOP, &options);
            }
            for _ in 0..random.u8(..3) {
                let mut options = ipv6_options(random);
                // A longer one may have a home address, and is not read.
                if options.len() > 14 {
                    options = vec![1, 4, 0, 0, 0, 0];
                }
                syn = syn.extension(DESTINATION, &options);
            }
            syn
        }
    }
}

/// An option of this kind with `len` random bytes, which its size counts with these others.
fn option(kind: u8, len: usize, others: u8, random: &mut Rng) -> Vec<u8> {
    let mut option = vec![kind, len as u8 + others];
    option.extend((0..len).map(|_| random.u8(..)));
    option
}

fn ipv4_options(random: &mut Rng) -> Vec<u8> {
    /// CIPSO, of which the kernel has labels.
    const NOT_JUDGED: u8 = 134;
    let mut options = Vec::new();
    for _ in 0..random.usize(1..4) {
        match random.u8(..8) {
            0 => options.push(1),
            1 => options.push(random.u8(..2)),
            // Record route and timestamp, with a pointer that may fit.
            2..=4 => {
                let len = random.usize(2..22);
                let mut one = option(if random.bool() { 7 } else { 68 }, len, 2, random);
                one[2] = random.u8(..one[1] + 8);
                options.extend(one);
            }
            5 => {
                let kind = [131, 137, 148, 7, 68, 130][random.usize(..6)];
                options.extend(option(kind, random.usize(..8), 2, random));
            }
            6 => {
                let kind = random.u8(..);
                options.extend(option(kind, random.usize(..10), 2, random));
            }
            _ => options.extend([random.u8(..), random.u8(..)]),
        }
    }
    for byte in &mut options {
        if *byte == NOT_JUDGED {
            *byte = 1;
        }
    }
    options.resize(options.len().next_multiple_of(4).min(40), 1);
    options
}

fn ipv6_options(random: &mut Rng) -> Vec<u8> {
    /// CALIPSO, of which the kernel has labels.
    const NOT_JUDGED: u8 = 7;
    let mut options = Vec::new();
    for _ in 0..random.usize(1..7) {
        match random.u8(..10) {
            0 => options.push(0),
            1..=3 => {
                let len = random.u8(..7);
                options.extend([1, len]);
                options.resize(options.len() + usize::from(len), 0);
            }
            4 => options.extend(option(1, random.usize(..6), 0, random)),
            5 => options.extend(option(5, random.usize(1..4), 0, random)),
            6 => options.extend(option(49, random.usize(2..6), 0, random)),
            7..=8 => {
                let kind = random.u8(..0x40);
                options.extend(option(kind, random.usize(..10), 0, random));
            }
            _ => {
                let kind = random.u8(..);
                options.extend(option(kind, random.usize(..10), 0, random));
            }
        }
    }
    for byte in &mut options {
        if *byte == NOT_JUDGED {
            *byte = 30;
        }
    }
    // Padding to whole units, behind kind and length of the header.
    match options.len() % 8 {
        6 => {}
        5 => options.push(0),
        len => {
            let padding = (12 - len) % 8;
            options.extend([1, padding as u8]);
            options.resize(options.len() + padding, 0);
        }
    }
    options
}
