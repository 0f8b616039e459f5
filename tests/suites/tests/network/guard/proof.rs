//! Who brings a challenge back is let in, once and whatever the wire does to the handshake; nobody else is.

use std::{
    net::{IpAddr, SocketAddr},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::{self, *};
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, flag},
    socket::{Connection, Listener, Method},
    veth::{CLIENT_INTERFACE, Family, server_port},
    xdp::Mode,
};
use tfo_userspace::{datapath::Namespace, kernel::clock::monotonic_coarse};

use super::{
    stranger::{Challenge, Stranger},
    testbed::{Ends, GuardTestbed, grown},
};

const DATA: &[u8] = b"it is I";
/// Long enough for a frame to be seen by whoever is to see it.
const MOMENT: Duration = Duration::from_millis(50);

/// A guarded listener, at which ACKs without proof get nowhere any more.
struct Gate {
    testbed: GuardTestbed,
    family: Family,
    listener: Listener,
}

impl Gate {
    fn new(family: Family) -> Result<Self> {
        Self::with_slots(family, None)
    }

    /// Slots of time are 2 to the power of `shift` nanoseconds.
    fn with_slots(family: Family, shift: Option<u32>) -> Result<Self> {
        let testbed = GuardTestbed::new(Mode::Generic)?;
        let listener = testbed.base.listen(family)?;
        testbed.guard_with_slots(listener.port(), shift)?;
        testbed.past_grace(listener.port())?;
        Ok(Self {
            testbed,
            family,
            listener,
        })
    }

    fn stranger(&self, number: u8) -> Result<Stranger> {
        Stranger::new(
            &self.testbed.base.pair,
            self.family,
            number,
            self.listener.port(),
        )
    }

    /// The connection that brings [`DATA`].
    fn accept(&self) -> Result<Connection> {
        let connection = self.listener.accept()?;
        let came = connection.receive()?;
        ensure!(came == DATA, "the server read {came:?}");
        Ok(connection)
    }

    /// What the guard counts while `work` is done.
    fn counting<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
        expected: &[(Counter, u64)],
    ) -> Result<T> {
        let before = self.testbed.counters()?;
        let done = work()?;
        thread::sleep(MOMENT);
        let grown = grown(&before, &self.testbed.counters()?);
        ensure!(grown == expected, "{grown:?}, expected {expected:?}");
        Ok(done)
    }

    fn ensure_nobody(&self) -> Result<()> {
        ensure!(self.listener.reset_all()? == 0, "someone was let in");
        Ok(())
    }
}

/// Both families, with timestamps and without.
fn each(check: impl Fn(&Gate, Stranger) -> Result<()>) -> Result<()> {
    for family in Family::BOTH {
        let gate = Gate::new(family)?;
        check(&gate, gate.stranger(0)?).with_context(|| format!("{family}, timestamps"))?;
        let bare = gate.stranger(1)?.without_timestamps();
        check(&gate, bare).with_context(|| format!("{family}, no timestamps"))?;
    }
    Ok(())
}

#[test]
fn a_syn_that_is_sent_again_has_the_same_answer() -> Result<()> {
    each(|gate, mut stranger| {
        // A slot of time may end just now, but not twice.
        let same = |stranger: &mut Stranger| -> Result<_> {
            let first = stranger.knock()?;
            Ok((first, stranger.knock_again()?))
        };
        let (mut first, mut second) = same(&mut stranger)?;
        if first != second {
            (first, second) = same(&mut stranger)?;
        }
        ensure!(first == second, "{first:?}, {second:?}");
        gate.counting(|| stranger.prove(&first, DATA), &[(GuardAccepted, 1)])?;
        gate.accept().map(drop)
    })
}

/// The first SYN-ACK is lost, or the first ACK: what is sent again does as well.
#[test]
fn what_is_lost_is_made_up_for() -> Result<()> {
    each(|gate, mut stranger| {
        stranger.raw.next_port();
        stranger.syn()?;
        let again = stranger.knock_again()?;
        // Data follows an ACK that never came.
        gate.counting(|| stranger.prove(&again, DATA), &[(GuardAccepted, 1)])?;
        gate.accept().map(drop)
    })
}

#[test]
fn an_ack_that_comes_again_opens_nothing_more() -> Result<()> {
    each(|gate, mut stranger| {
        let challenge = stranger.knock()?;
        let again = || -> Result<()> {
            for _ in 0..5 {
                stranger.prove(&challenge, b"")?;
                thread::sleep(Duration::from_millis(10));
            }
            stranger.prove(&challenge, DATA)
        };
        gate.counting(again, &[(GuardAccepted, 1)])?;
        let _open = gate.accept()?;
        gate.ensure_nobody()
    })
}

/// As with the kernel's SYN cookies: nothing is kept of a proof.
#[test]
fn after_the_end_it_opens_another_connection() -> Result<()> {
    each(|gate, mut stranger| {
        let challenge = stranger.knock()?;
        for _ in 0..2 {
            gate.counting(|| stranger.prove(&challenge, DATA), &[(GuardAccepted, 1)])?;
            ensure!(gate.listener.reset_all()? == 1, "no connection");
        }
        Ok(())
    })
}

/// Of another client, or with any other number than those of the challenge.
#[test]
fn a_challenge_is_good_for_its_own_handshake_alone() -> Result<()> {
    each(|gate, mut stranger| {
        let challenge = stranger.knock()?;
        let Challenge { sequence, clock } = challenge;
        let wrong = [
            Challenge {
                sequence: sequence ^ 1,
                ..challenge
            },
            Challenge {
                sequence: sequence ^ 1 << 31,
                ..challenge
            },
            Challenge {
                clock: clock.map_or(Some(7), |clock| Some(clock ^ 1)),
                ..challenge
            },
            Challenge {
                clock: clock.map_or(Some(0), |_| None),
                ..challenge
            },
        ];
        let try_all = || {
            wrong.iter().try_for_each(|wrong| {
                stranger.prove(wrong, DATA)?;
                stranger.prove(wrong, b"")
            })
        };
        gate.counting(try_all, &[(GuardWrongAcks, 8)])?;
        stranger.raw.next_port();
        gate.counting(|| stranger.prove(&challenge, DATA), &[(GuardWrongAcks, 1)])?;
        gate.ensure_nobody()
    })
}

/// The slot of time at this moment.
fn slot(shift: u32) -> u64 {
    monotonic_coarse().as_nanos() as u64 >> shift
}

fn wait_for_slot(wanted: u64, shift: u32) {
    while slot(shift) < wanted {
        thread::sleep(Duration::from_millis(5));
    }
}

/// A challenge is good in its slot of time and the next one, whatever becomes of the secrets meanwhile.
#[test]
fn a_challenge_expires() -> Result<()> {
    const SHIFT: u32 = 31;
    for family in Family::BOTH {
        let gate = Gate::with_slots(family, Some(SHIFT))?;
        let mut stranger = gate.stranger(0)?;
        for (later, expected) in [
            (0, GuardAccepted),
            (1, GuardAccepted),
            (2, GuardWrongAcks),
            (4, GuardWrongAcks),
        ] {
            wait_for_slot(slot(SHIFT) + 1, SHIFT);
            let issued = slot(SHIFT);
            let challenge = stranger.knock()?;
            ensure!(slot(SHIFT) == issued, "too slow a machine");
            for n in 0..=later {
                wait_for_slot(issued + n, SHIFT);
                let server = &gate.testbed.base.pair.server;
                server.run(|| anyhow::Ok(Namespace::current()?.guard().refresh()?))?;
            }
            gate.counting(|| stranger.prove(&challenge, DATA), &[(expected, 1)])
                .with_context(|| format!("{family}: {later} slots later"))?;
            match expected {
                GuardAccepted => drop(gate.accept()?),
                _ => gate.ensure_nobody()?,
            }
        }
    }
    Ok(())
}

/// Connections go on while slots of an eighth of a second go by, and secrets with them.
#[test]
fn renewed_secrets_cost_no_connection() -> Result<()> {
    const SHIFT: u32 = 27;
    let gate = Gate::with_slots(Family::V4, Some(SHIFT))?;
    let pair = &gate.testbed.base.pair;
    let before = TcpExt::read(&pair.client)?;
    let start = slot(SHIFT);
    let mut renewed = start;
    let mut connections = 0;
    while slot(SHIFT) < start + 20 {
        if slot(SHIFT) > renewed {
            renewed = slot(SHIFT);
            let refresh = || anyhow::Ok(Namespace::current()?.guard().refresh()?);
            pair.server.run(refresh)?;
        }
        Ends::connect(pair, &gate.listener, gate.family, Method::Plain)?;
        connections += 1;
    }
    let lost = TcpExt::read(&pair.client)?.since(&before);
    println!("{connections} connections in 20 slots of time");
    ensure!(
        connections > 40 && lost.get("TCPSynRetrans") == 0,
        "{lost:?}"
    );
    Ok(())
}

/// As many forged ACKs as good ones, and from the good ones' own network: each good one gets through.
#[test]
fn forged_acks_are_in_nobodys_way() -> Result<()> {
    const CONNECTIONS: u64 = 200;
    for family in Family::BOTH {
        let gate = Gate::new(family)?;
        let pair = &gate.testbed.base.pair;
        let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
        let mut random = fastrand::Rng::new();
        let connect = || {
            (0..CONNECTIONS).try_for_each(|_| -> Result<()> {
                let ack = forged(&mut random, family, gate.listener.port());
                link.send(&ack.frame())?;
                Ends::connect(pair, &gate.listener, family, Method::Plain).map(drop)
            })
        };
        let expected = [
            (GuardChallenged, CONNECTIONS),
            (GuardAccepted, CONNECTIONS),
            (GuardWrongAcks, CONNECTIONS),
        ];
        gate.counting(connect, &expected)
            .with_context(|| format!("{family}"))?;
        gate.ensure_nobody()?;
    }
    Ok(())
}

/// An ACK of no connection.
fn forged(random: &mut fastrand::Rng, family: Family, port: u16) -> Segment {
    let source: IpAddr = family.spare(random.u8(..200));
    let source = SocketAddr::new(source, random.u16(1024..));
    let mut options = b"\x01\x01\x08\x0a".to_vec();
    options.extend(random.u64(..).to_be_bytes());
    Segment::new(source, server_port(family, port), flag::ACK)
        .numbers(random.u32(..), random.u32(..))
        .options(&options)
}

/// Many at once, so that an ACK and the data behind it come in one batch: nothing has to be sent twice.
fn at_once(mode: Mode) -> Result<()> {
    const CLIENTS: u64 = 16;
    const EACH: u64 = 60;
    let testbed = GuardTestbed::new(mode)?;
    let listeners: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let family = Family::BOTH[n as usize % 2];
            Ok((family, testbed.base.listen(family)?))
        })
        .collect::<Result<_>>()?;
    for (_, listener) in &listeners {
        testbed.guard(listener.port(), "on", &[])?;
    }
    let pair = &testbed.base.pair;
    let before = TcpExt::read(&pair.client)?;
    let start = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = listeners
            .iter()
            .map(|(family, listener)| {
                scope.spawn(move || {
                    (0..EACH).try_for_each(|_| {
                        Ends::connect(pair, listener, *family, Method::Plain).map(drop)
                    })
                })
            })
            .collect();
        let ends = clients.into_iter().map(ScopedJoinHandle::join);
        ends.into_iter().try_for_each(|end| end.expect("no panic"))
    })?;
    let sent_again = TcpExt::read(&pair.client)?.since(&before);
    let of = [
        "TCPSynRetrans",
        "TCPTimeouts",
        "TCPLossProbes",
        "TCPFastRetrans",
    ];
    let of = of.map(|name| (name, sent_again.get(name)));
    println!(
        "{mode}: {} connections in {:?}, {of:?}",
        CLIENTS * EACH,
        start.elapsed()
    );
    let sum: u64 = of.iter().map(|(_, count)| count).sum();
    // A machine that stands still for 200 ms probes, too.
    ensure!(sum * 50 <= CLIENTS * EACH, "{of:?}");
    ensure!(testbed.counters()?.get(GuardAccepted) == CLIENTS * EACH);
    Ok(())
}

#[test]
fn many_at_once_native() -> Result<()> {
    at_once(Mode::Native)
}

#[test]
fn many_at_once_generic() -> Result<()> {
    at_once(Mode::Generic)
}
