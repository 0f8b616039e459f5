//! Clients that connect repeatedly to any host, with the request in the SYN if they have a cookie.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tfo_testbed::socket::{Info, Listener};

use super::host::{FARM, Host, eventually, source};

const REQUEST: &[u8] = b"what is the time?";
/// Number of client addresses, each with a thread. A kernel keeps six entries for a server, those of other namespaces
/// with the same hash included (`TCP_METRICS_RECLAIM_DEPTH`), and drops the oldest above that.
const SOURCES: u8 = 3;
/// Pause between two connections of a client.
const REST: Duration = Duration::from_millis(8);
const LIMIT: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    connections: AtomicU64,
    failures: AtomicU64,
    /// Connections by client.
    visits: [AtomicU64; SOURCES as usize],
}

/// Load on a farm, until [`Self::stop`].
pub(crate) struct Traffic {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<Option<String>>>,
    servers: Vec<JoinHandle<()>>,
}

/// Results of [`Traffic`].
pub(crate) struct Came {
    pub(crate) connections: u64,
    pub(crate) failures: u64,
    first_failure: Option<String>,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} failed",
            self.connections, self.failures
        )?;
        match &self.first_failure {
            Some(failure) => write!(f, ": {failure}"),
            None => Ok(()),
        }
    }
}

impl Traffic {
    /// Listens on every host, and starts the clients.
    pub(crate) fn start(hosts: &[Host], clients: &tfo_testbed::netns::Netns) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let mut servers = Vec::new();
        for host in hosts {
            let listener = Arc::new(Listener::fast_open(&host.netns, FARM)?);
            for _ in 0..2 {
                let (listener, counts) = (listener.clone(), counts.clone());
                servers.push(thread::spawn(move || {
                    while !counts.stop.load(Ordering::Relaxed) {
                        // A timeout, or a client that gave up, which the client counts.
                        let _ = answer(&listener);
                    }
                }));
            }
        }
        let path = clients.path();
        let start = |number: u8| {
            let (counts, path) = (counts.clone(), path.clone());
            thread::spawn(move || {
                let entered = std::fs::File::open(path).map_err(anyhow::Error::from);
                let entered = entered.and_then(|netns| {
                    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                    let netns = std::os::fd::AsFd::as_fd(&netns);
                    Ok(rustix::thread::move_into_link_name_space(netns, kind)?)
                });
                if let Err(error) = entered {
                    counts.failures.fetch_add(1, Ordering::Relaxed);
                    return Some(format!("{error:#}"));
                }
                let mut first_failure = None;
                while !counts.stop.load(Ordering::Relaxed) {
                    counts.connections.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = ask(number) {
                        counts.failures.fetch_add(1, Ordering::Relaxed);
                        first_failure.get_or_insert(format!("{error:#}"));
                    }
                    counts.visits[usize::from(number) - 1].fetch_add(1, Ordering::Relaxed);
                    thread::sleep(REST);
                }
                first_failure
            })
        };
        let clients = (1..=SOURCES).map(start).collect();
        Ok(Self {
            counts,
            clients,
            servers,
        })
    }

    /// Waits until each client has connected `times` more times.
    pub(crate) fn wait_for_all(&self, times: u64) -> Result<()> {
        let visits = || {
            let each = self.counts.visits.each_ref();
            each.map(|visits| visits.load(Ordering::Relaxed))
        };
        let before = visits();
        eventually("each client comes again", || {
            let mut both = visits().into_iter().zip(before);
            Ok(both.all(|(now, before)| now >= before + times))
        })
        .map(drop)
    }

    /// Stops clients and servers.
    pub(crate) fn stop(self) -> Came {
        self.counts.stop.store(true, Ordering::Relaxed);
        let mut first_failure = None;
        for client in self.clients {
            first_failure = first_failure.or(client.join().ok().flatten());
        }
        for server in self.servers {
            drop(server.join());
        }
        Came {
            connections: self.counts.connections.load(Ordering::Relaxed),
            failures: self.counts.failures.load(Ordering::Relaxed),
            first_failure,
        }
    }
}

fn answer(listener: &Listener) -> Result<()> {
    let accepted = listener.accept()?;
    let request = accepted.receive()?;
    accepted.send(&request)
}

/// Makes one connection and checks the reply. Gives whether the server took the request in the SYN.
pub(crate) fn ask(number: u8) -> Result<bool> {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    let from = SocketAddr::new(IpAddr::V4(source(number)), 0);
    socket.bind(&from.into())?;
    let flags = libc::MSG_FASTOPEN;
    let sent = socket.send_to_with_flags(REQUEST, &FARM.into(), flags);
    let sent = sent.context("cannot connect")?;
    socket.write_all(&REQUEST[sent..]).context("cannot send")?;
    let mut reply = [0; REQUEST.len()];
    socket.read_exact(&mut reply).context("no reply")?;
    anyhow::ensure!(reply == REQUEST, "wrong reply");
    Ok(Info::of(&socket)?.syn_data_taken)
}
