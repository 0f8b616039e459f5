//! Many senders at once against a small Fast Open queue: how far the data path and the kernel come
//! apart where the queue fills between the look of one and that of the other.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;

use super::testbed::{FuzzTestbed, SMALL_QUEUE};
use crate::{socket::Listener, testbed::Tally, veth::Family};

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The SYNs that the data path saw.
    pub syns: u64,
    /// What the kernel counted.
    pub kernel: Tally,
    /// By how much `tfo` counted more than the kernel.
    pub drift: Tally,
}

/// Sends SYNs with a good cookie from so many threads at once, `each` from each, to a listener with a
/// queue of three, while another thread accepts and resets what got through.
///
/// # Errors
///
/// Where the wire, the listener or `tfo` fail.
///
/// # Panics
///
/// Where a sender does.
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
