//! Clients that reconnect with their cookies in a loop while keys are rotated.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{
    poll::eventually,
    socket::Method,
    testbed::{Testbed, exchange},
    veth::Family,
};

/// Time limit of two connections.
const LIMIT: Duration = Duration::from_secs(30);

/// Connections of all clients.
#[derive(Clone, Copy, Debug)]
pub struct Visits {
    /// Connections with a cookie.
    pub connections: u32,
    /// Connections whose cookie was refused, according to `TCP_INFO`.
    pub refused: u32,
}

/// State of the two clients, one per address family.
#[derive(Default)]
struct Clients {
    connections: [AtomicU32; 2],
    refused: AtomicU32,
    done: AtomicBool,
}

impl Clients {
    fn run(&self, testbed: &Testbed, index: usize) -> Result<()> {
        let family = Family::BOTH[index];
        let listener = testbed.listen(family)?;
        testbed.request_cookie(&listener, family)?;
        while !self.done.load(Ordering::Relaxed) {
            let exchange = exchange(&testbed.pair, &listener, family, Method::SendTo)?;
            if !exchange.in_syn {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            self.connections[index].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn connections(&self) -> [u32; 2] {
        [0, 1].map(|index: usize| self.connections[index].load(Ordering::Relaxed))
    }

    fn wait(&self, ended: impl Fn() -> bool) -> Result<()> {
        let before = self.connections();
        eventually("every client connected twice", LIMIT, || {
            ensure!(!ended(), "a client ended");
            let mut grown = self.connections().into_iter().zip(before);
            Ok(grown.all(|(now, before)| now >= before + 2))
        })
        .map(drop)
    }
}

/// Runs `work` while one client per address family connects to `testbed` in a loop, with a cookie requested before.
///
/// `work` receives a function that waits until each client has connected twice: a client that does not connect between
/// two rotations loses its cookie by design.
///
/// # Errors
///
/// Those of `work`, or a client cannot connect.
pub fn while_clients_return(
    testbed: &Testbed,
    work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<Visits> {
    // Each port rests for 60 seconds otherwise, and all of them are used up in less.
    testbed
        .pair
        .client
        .set_sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    let clients = Clients::default();
    thread::scope(|scope| -> Result<()> {
        let threads = [0, 1].map(|index| {
            let clients = &clients;
            scope.spawn(move || clients.run(testbed, index))
        });
        let done = work(&|| clients.wait(|| threads.iter().any(ScopedJoinHandle::is_finished)));
        clients.done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        done
    })?;
    Ok(Visits {
        connections: clients.connections().iter().sum(),
        refused: clients.refused.into_inner(),
    })
}
