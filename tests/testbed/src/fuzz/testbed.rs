//! Testbed of the fuzzer: a veth pair, `tfo`, and listeners with different settings.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::Result;
use tfo_common::{counters::Counter, fastopen::own::OwnCookies};
use tfo_userspace::datapath::{Namespace, OwnCookieChange};

use super::{
    Batch, Host, Step,
    sent::{Sent, client, frame},
    step::CookieOf,
};
use crate::{
    keys,
    link::{Frames, LinkSocket},
    own_cookies::{self, addresses},
    packet::{cookie, fast_open, flag},
    poll::Deadline,
    program::KeyBytes,
    socket::{Listener, Settings},
    testbed::{Tally, Testbed},
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE, server_port},
};

const PRIMARY: KeyBytes = *b"the first key...";
const BACKUP: KeyBytes = *b"the second key..";
const STRANGER: KeyBytes = *b"nobody's key....";
const OWN_KEYS: &[u8; 32] = b"a listener's keyanother of its..";

/// Time without new counts after which missing SYNs are taken for lost.
const SETTLED: Duration = Duration::from_millis(300);
/// Polling interval.
const POLL: Duration = Duration::from_micros(200);

/// A port without a listener.
const CLOSED: u16 = 1;

/// Backlog of the listener with a small Fast Open queue: its SYN queue never fills.
const ROOM: u32 = 1 << 17;

const BIG: Settings = Settings::FAST_OPEN;

/// Index of a listener with a small Fast Open queue.
pub(super) const SMALL_QUEUE: usize = 2;

/// Listeners: address family (IPv6 is dual-stack) and settings.
const LISTENERS: [(Family, Settings); 9] = [
    (Family::V6, BIG),
    (Family::V4, BIG),
    (
        Family::V6,
        Settings {
            queue: Some(3),
            backlog: ROOM,
            ..BIG
        },
    ),
    (
        Family::V4,
        Settings {
            queue: Some(1),
            ..BIG
        },
    ),
    (Family::V6, Settings { queue: None, ..BIG }),
    (
        Family::V6,
        Settings {
            keys: OWN_KEYS.split_at(16).0,
            ..BIG
        },
    ),
    (
        Family::V6,
        Settings {
            keys: OWN_KEYS,
            ..BIG
        },
    ),
    (
        Family::V6,
        Settings {
            no_cookie: true,
            ..BIG
        },
    ),
    // Its accept queue and SYN queue fill.
    (Family::V6, Settings { backlog: 2, ..BIG }),
];

/// A veth pair with `tfo` attached and all listeners open.
pub(super) struct FuzzTestbed {
    base: Testbed,
    link: LinkSocket,
    listeners: Vec<Listener>,
    host: Option<Host>,
    /// Number of clients so far.
    clients: u32,
}

/// Result of a batch.
pub(super) struct Played {
    pub(super) seen: u64,
    pub(super) lost: u64,
    /// Counters of `tfo` minus the kernel's.
    pub(super) drift: Tally,
}

/// Counters at one time.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) syns: u64,
    pub(super) drift: Tally,
}

impl FuzzTestbed {
    pub(super) fn new() -> Result<Self> {
        let pair = Pair::new()?;
        // Every client has its own address, behind one silent router.
        let routes = Family::BOTH.map(|family| {
            let network = client(family, 0).ip();
            let bits = if network.is_ipv4() { 16 } else { 64 };
            format!(
                "route add {network}/{bits} via {} dev {SERVER_INTERFACE}",
                family.spare(0)
            )
        });
        for family in Family::BOTH {
            pair.set_neighbour(family.spare(0), NOBODYS_MAC)?;
        }
        pair.server.configure(&routes)?;
        pair.server
            .set_sysctl("net.core.somaxconn", &ROOM.to_string())?;
        let text = [PRIMARY, BACKUP].map(text).join(",");
        pair.server.set_sysctl(keys::SYSCTL, &text)?;
        let listeners = LISTENERS.iter().map(|(family, settings)| {
            let address = SocketAddr::new(family.unspecified(), 0);
            Listener::with(&pair.server, address, settings)
        });
        let listeners = listeners.collect::<Result<_>>()?;
        let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
        let base = Testbed::attach(pair, &[])?;
        // Attaches the programs; each batch has rules of its own.
        base.tfo.done(&["cookies", "set"])?;
        Ok(Self {
            listeners,
            link,
            base,
            host: None,
            clients: 0,
        })
    }

    /// Sends a batch at full speed.
    pub(super) fn play(&mut self, batch: &Batch) -> Result<Played> {
        self.configure(&batch.host)?;
        let before = self.counted()?;
        let mut sent = Vec::with_capacity(batch.steps.len());
        for step in &batch.steps {
            self.send(step, &mut sent)?;
        }
        let syns = batch.steps.iter().filter(|step| step.is_syn()).count() as u64;
        let after = self.settle(before, syns)?;
        self.clear(&sent)?;
        let seen = after.syns - before.syns;
        Ok(Played {
            seen,
            lost: syns.saturating_sub(seen),
            drift: after.drift.less(before.drift),
        })
    }

    /// Sends a batch one SYN at a time. Returns the index of the first SYN after which the counters differ.
    pub(super) fn first_difference(&mut self, batch: &Batch) -> Result<Option<usize>> {
        self.one_by_one(batch, true).map(|(found, ..)| found)
    }

    /// Sends a batch one SYN at a time. Returns the difference, and every SYN's options.
    pub(super) fn play_slowly(&mut self, batch: &Batch) -> Result<(Tally, Vec<Vec<u8>>)> {
        let (_, drift, sent) = self.one_by_one(batch, false)?;
        Ok((drift, sent.into_iter().map(|sent| sent.options).collect()))
    }

    fn one_by_one(
        &mut self,
        batch: &Batch,
        to_the_first: bool,
    ) -> Result<(Option<usize>, Tally, Vec<Sent>)> {
        self.configure(&batch.host)?;
        let start = self.counted()?;
        let mut before = start;
        let mut sent = Vec::new();
        let mut found = None;
        for (index, step) in batch.steps.iter().enumerate() {
            self.send(step, &mut sent)?;
            before = self.settle(before, step.is_syn().into())?;
            if before.drift != start.drift {
                found = found.or(Some(index));
                if to_the_first {
                    break;
                }
            }
        }
        self.clear(&sent)?;
        Ok((found, before.drift.less(start.drift), sent))
    }

    /// The kernel's counters, from `/proc/net/netstat`.
    pub(super) fn kernel(&self) -> Result<Tally> {
        let kernel = self.base.kernel()?;
        Ok(Tally::of(|name| kernel.get(name).cast_signed()))
    }

    fn configure(&mut self, host: &Host) -> Result<()> {
        if self.host.as_ref() != Some(host) {
            let server = &self.base.pair.server;
            server.set_sysctl("net.ipv4.tcp_fastopen", &host.fast_open.to_string())?;
            server.set_sysctl("net.ipv4.tcp_syncookies", &host.syn_cookies.to_string())?;
            let before = self.host.as_ref().and_then(|host| host.policy.as_ref());
            if before != host.policy.as_ref() {
                self.base.set_policy(host.policy.clone())?;
            }
            let rules = if host.own_cookies {
                own_cookies::fixed()
            } else {
                OwnCookies::OFF
            };
            self.base.pair.server.run(|| -> Result<()> {
                let namespace = Namespace::current()?;
                Ok(OwnCookieChange::begin(&namespace)?.renew(&rules)?)
            })?;
            self.host = Some(host.clone());
        }
        Ok(())
    }

    fn send(&mut self, step: &Step, sent: &mut Vec<Sent>) -> Result<()> {
        let earlier = step
            .repeats
            .and_then(|back| sent.iter().rev().nth(back - 1));
        let (mut client, mut server, sequence) = if let Some(earlier) = earlier {
            (earlier.client, earlier.server, earlier.sequence)
        } else {
            self.clients += 1;
            let target = step.target % (self.listeners.len() + 1);
            let port = self.listeners.get(target).map_or(CLOSED, Listener::port);
            (
                client(step.family, self.clients),
                server_port(step.family, port),
                self.clients << 8,
            )
        };
        // What repeats may be of the other family.
        let foreign = step.foreign.filter(|_| earlier.is_none());
        if let Some(foreign) = foreign {
            foreign.redirect(&mut client, &mut server);
        }
        let own = |index: usize| OWN_KEYS.as_chunks().0[index];
        let options = step.options(|of| {
            let (key, client) = match of {
                CookieOf::Primary => (PRIMARY, client.ip()),
                CookieOf::Backup => (BACKUP, client.ip()),
                CookieOf::Own => (own(0), client.ip()),
                CookieOf::OwnBackup => (own(1), client.ip()),
                CookieOf::Stranger => (STRANGER, client.ip()),
                CookieOf::AnotherClient => (PRIMARY, server.ip()),
                CookieOf::Issued(slots) => {
                    return own_cookies::issued(&addresses(client.ip(), server.ip()), slots)
                        .to_bytes();
                }
            };
            cookie(&key, client, server.ip())
        });
        let syn = Sent {
            client,
            server,
            sequence: sequence.wrapping_add(step.ahead),
            options,
        };
        let data = vec![b'+'; step.data.into()];
        let mut frame = frame(&syn, flag::SYN | step.flags, &data).to_vec();
        if let Some(foreign) = foreign {
            foreign.spoil(&mut frame);
        }
        self.link.send(&frame)?;
        sent.push(syn);
        Ok(())
    }

    /// The listener with this index.
    pub(super) fn listener(&self, number: usize) -> &Listener {
        &self.listeners[number]
    }

    /// Sends a SYN with a valid cookie to a listener.
    pub(super) fn send_good(&self, target: usize, family: Family, number: u32) -> Result<()> {
        let (from, to) = (
            client(family, number),
            server_port(family, self.listener(target).port()),
        );
        let syn = Sent {
            client: from,
            server: to,
            sequence: number << 8,
            options: fast_open(&cookie(&PRIMARY, from.ip(), to.ip())).into(),
        };
        self.transmit(&frame(&syn, flag::SYN, b"data"))
    }

    /// Sends a frame; retries while the interface's queue is full (`ENOBUFS`).
    fn transmit(&self, frame: &[u8]) -> Result<()> {
        let deadline = Deadline::after(SETTLED);
        loop {
            match self.link.send(frame) {
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOBUFS) && !deadline.is_over() =>
                {
                    thread::sleep(POLL);
                }
                result => return Ok(result?),
            }
        }
    }

    /// Waits until `syns` more SYNs than `before` are counted and the drift is as before, or until nothing changes for
    /// [`SETTLED`].
    pub(super) fn settle(&self, before: Counted, syns: u64) -> Result<Counted> {
        let mut last = before;
        let mut settled = Deadline::after(SETTLED);
        loop {
            let now = self.counted()?;
            if now.syns - before.syns >= syns && now.drift == before.drift {
                return Ok(now);
            }
            if (now.syns, now.drift) != (last.syns, last.drift) {
                last = now;
                settled = Deadline::after(SETTLED);
            } else if settled.is_over() {
                return Ok(now);
            }
            thread::sleep(POLL);
        }
    }

    pub(super) fn counted(&self) -> Result<Counted> {
        let drift = self.base.drift()?;
        let differences = drift.drift();
        let drift_of = |name: &str| {
            let mirrored = Counter::MIRRORED.iter().zip(&differences);
            let found = mirrored
                .into_iter()
                .find(|(counter, _)| counter.name() == name);
            found.map_or(0, |(_, difference)| *difference)
        };
        Ok(Counted {
            syns: drift.ours.total.get(Counter::Syns) + drift.ours.total.get(Counter::Elsewhere),
            drift: Tally::of(drift_of),
        })
    }

    /// Empties all queues.
    fn clear(&self, sent: &[Sent]) -> Result<()> {
        // After a client's RST, a Fast Open connection occupies its queue slot for a minute; after the server's RST,
        // the slot is free at once.
        for listener in &self.listeners {
            listener.reset_all()?;
        }
        for syn in sent {
            let reset = Sent {
                sequence: syn.sequence.wrapping_add(1),
                options: Vec::new(),
                ..*syn
            };
            self.transmit(&frame(&reset, flag::RST, &[]))?;
        }
        Ok(())
    }
}

/// A key in the format of `net.ipv4.tcp_fastopen_key`.
fn text(key: KeyBytes) -> String {
    let groups = key.as_chunks().0.iter();
    let groups = groups.map(|group| format!("{:08x}", u32::from_le_bytes(*group)));
    groups.collect::<Vec<_>>().join("-")
}
