//! Barrier frames: they prove that all earlier frames have been processed, so that a test can assert silence without
//! sleeping.
//!
//! The kernel keeps the order of frames only per sending CPU. Earlier frames may come from any CPU, so each CPU sends
//! one barrier frame.

use std::{io, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    link::{Frames, LinkSocket},
    netns::Netns,
    veth::{CLIENT_INTERFACE, CLIENT_MAC, Mac, Pair, SERVER_INTERFACE, SERVER_MAC},
};

const LIMIT: Duration = Duration::from_secs(20);

impl Pair {
    /// Waits until both ends have processed all earlier frames and their immediate replies: one barrier from the client
    /// to the server, then one back.
    ///
    /// # Errors
    ///
    /// A barrier frame does not arrive within 20 seconds.
    pub fn barrier(&self) -> Result<()> {
        let client = (&self.client, CLIENT_INTERFACE, CLIENT_MAC);
        let server = (&self.server, SERVER_INTERFACE, SERVER_MAC);
        through(client, server).context("no marker came to the server")?;
        through(server, client).context("no marker came to the client")
    }
}

type End<'a> = (&'a Netns, &'a str, Mac);

fn through(from: End<'_>, to: End<'_>) -> Result<()> {
    let source = LinkSocket::open(from.0, from.1, Frames::None)?;
    let sink = LinkSocket::open(to.0, to.1, Frames::Marker)?;
    let cpus = sched_getaffinity(None)?;
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| cpus.is_set(*cpu))
        .collect();
    for cpu in &cpus {
        let ether_type = (Frames::Marker as u16).to_be_bytes();
        let number = u16::try_from(*cpu)?.to_be_bytes();
        let mut frame = [&to.2[..], &from.2, &ether_type, &number].concat();
        frame.resize(60, 0);
        let send = || -> io::Result<()> {
            let mut own = CpuSet::new();
            own.set(*cpu);
            sched_setaffinity(None, &own)?;
            source.send(&frame)
        };
        // In its own thread, so that the caller's affinity does not change.
        thread::scope(|scope| scope.spawn(send).join().expect("no panic"))?;
    }
    for _ in &cpus {
        let came = sink.receive(LIMIT)?;
        ensure!(came.is_some(), "not within {LIMIT:?}");
    }
    Ok(())
}
