//! Concurrent senders against a small Fast Open queue: measures the drift that arises when the queue's length changes
//! between the data path's read and the kernel's.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;

use super::testbed::{FuzzTestbed, SMALL_QUEUE};
use crate::{socket::Listener, testbed::Tally, veth::Family};

/// Result of [`load`].
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// SYNs that the data path saw.
    pub syns: u64,
    /// The kernel's counters.
    pub kernel: Tally,
    /// Counters of `tfo` minus the kernel's.
    pub drift: Tally,
}

/// Sends `each` SYNs with a valid cookie from each of `senders` threads to a listener with a Fast Open queue of 3,
/// while another thread accepts and resets connections.
///
/// # Errors
///
/// The veth pair, the listener or `tfo` fails.
///
/// # Panics
///
/// A sender panics.
pub fn load(senders: u16, each: u16) -> Result<Load> {
    let testbed = FuzzTestbed::new()?;
    let before = testbed.counted()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let listener = testbed.listener(SMALL_QUEUE);
        let drain = scope.spawn(|| drain(listener, &done));
        let threads: Vec<_> = (0..senders)
            .map(|number| {
                let testbed = &testbed;
                scope.spawn(move || -> Result<()> {
                    let clients = u32::from(number) << 16;
                    (0..u32::from(each)).try_for_each(|client| {
                        let family = Family::BOTH[client as usize % 2];
                        testbed.send_good(SMALL_QUEUE, family, clients + client)
                    })
                })
            })
            .collect();
        let sent: Result<()> = threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        drain.join().expect("no panic")?;
        sent
    })?;
    let after = testbed.settle(before, u64::from(senders) * u64::from(each))?;
    Ok(Load {
        syns: after.syns - before.syns,
        kernel: testbed.kernel()?,
        drift: after.drift.less(before.drift),
    })
}

fn drain(listener: &Listener, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        listener.reset_all()?;
        thread::yield_now();
    }
    Ok(())
}
