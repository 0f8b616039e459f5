//! A client that answers a challenge is accepted once, despite loss and retransmission; nobody else is.

use std::{
    net::{IpAddr, SocketAddr},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter::{self, *},
    guard::ack::UNKNOWN_TO_TCP,
};
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, flag},
    seed::rng,
    socket::{Connection, Listener, Method},
    veth::{CLIENT_INTERFACE, Family, server_port},
    xdp::Mode,
};
use tfo_userspace::{datapath::Namespace, kernel::clock::monotonic_coarse};

use super::{
    stranger::{Challenge, Stranger},
    testbed::{Ends, GuardTestbed, grown, in_each_mode},
};

const DATA: &[u8] = b"it is I";

/// A listener with the guard on, at which a client was challenged: ACKs without a proof are wrong.
struct Gate {
    testbed: GuardTestbed,
    family: Family,
    listener: Listener,
}

impl Gate {
    fn new(mode: Mode, family: Family) -> Result<Self> {
        Self::with_slots(mode, family, None)
    }

    /// Sets time slots of 2^`shift` ns.
    fn with_slots(mode: Mode, family: Family, shift: Option<u32>) -> Result<Self> {
        let testbed = GuardTestbed::new(mode)?;
        let listener = testbed.base.listen(family)?;
        testbed.guard_with_slots(listener.port(), shift)?;
        Ends::connect(&testbed.base.pair, &listener, family, Method::Plain)?;
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

    /// Accepts the connection that carries [`DATA`].
    fn accept(&self) -> Result<Connection> {
        let connection = self.listener.accept()?;
        let came = connection.receive()?;
        ensure!(came == DATA, "the server read {came:?}");
        Ok(connection)
    }

    /// Runs `work`, and checks the increase of the guard's counters.
    fn counting<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
        expected: &[(Counter, u64)],
    ) -> Result<T> {
        let before = self.testbed.counters()?;
        let done = work()?;
        self.testbed.base.pair.barrier()?;
        let grown = grown(&before, &self.testbed.counters()?);
        ensure!(grown == expected, "{grown:?}, expected {expected:?}");
        Ok(done)
    }

    fn ensure_nobody(&self) -> Result<()> {
        self.testbed.base.pair.barrier()?;
        ensure!(self.listener.reset_all()? == 0, "a connection was accepted");
        Ok(())
    }
}

/// Runs `check` for both families, with and without timestamps.
fn each(mode: Mode, check: impl Fn(&Gate, Stranger) -> Result<()> + Sync) -> Result<()> {
    in_each_family(|family| {
        let gate = Gate::new(mode, family)?;
        check(&gate, gate.stranger(0)?).context("timestamps")?;
        let bare = gate.stranger(1)?.without_timestamps();
        check(&gate, bare).context("no timestamps")
    })
}

/// Runs `check` for both families in parallel, since time slots take some seconds.
fn in_each_family(check: impl Fn(Family) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let check = &check;
        let threads = Family::BOTH
            .map(|family| scope.spawn(move || check(family).with_context(|| family.to_string())));
        let ends = threads.map(ScopedJoinHandle::join);
        ends.into_iter().try_for_each(|end| end.expect("no panic"))
    })
}

fn a_syn_that_is_sent_again_has_the_same_answer(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
        // A time slot may end between the two SYNs, but not twice in a row.
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

/// The first SYN-ACK or the first ACK is lost, and a retransmission replaces it.
fn what_is_lost_is_made_up_for(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
        stranger.raw.next_port();
        stranger.syn()?;
        let again = stranger.knock_again()?;
        // Data that follows a lost ACK.
        gate.counting(|| stranger.prove(&again, DATA), &[(GuardAccepted, 1)])?;
        gate.accept().map(drop)
    })
}

fn an_ack_that_comes_again_opens_nothing_more(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
        let challenge = stranger.knock()?;
        let again = || -> Result<()> {
            for _ in 0..5 {
                stranger.prove(&challenge, b"")?;
                gate.testbed.base.pair.barrier()?;
            }
            stranger.prove(&challenge, DATA)
        };
        gate.counting(again, &[(GuardAccepted, 1)])?;
        let _open = gate.accept()?;
        gate.ensure_nobody()
    })
}

/// Proofs are stateless, as with the kernel's SYN cookies.
fn after_the_end_it_opens_another_connection(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
        let challenge = stranger.knock()?;
        for _ in 0..2 {
            gate.counting(|| stranger.prove(&challenge, DATA), &[(GuardAccepted, 1)])?;
            let connections = gate.listener.reset_all()?;
            ensure!(connections == 1, "{connections} connections");
            // The data path takes what comes at once for a part of the connection that it opened.
            thread::sleep(2 * Duration::from_nanos(UNKNOWN_TO_TCP));
        }
        Ok(())
    })
}

/// A challenge does not prove another client, and any changed number invalidates it.
fn a_challenge_is_good_for_its_own_handshake_alone(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
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

/// The kernel drops a segment with a wrong checksum: no SYN is answered, and no proof is counted as accepted.
fn a_wrong_checksum_proves_nothing(mode: Mode) -> Result<()> {
    each(mode, |gate, mut stranger| {
        let tcp = match gate.family {
            Family::V4 => 34,
            Family::V6 => 54,
        };
        let wrong = |segment: Segment| {
            let mut frame = segment.frame().to_vec();
            frame[tcp + 16] ^= 1;
            frame
        };
        let challenge = stranger.knock()?;
        let proof = wrong(stranger.proof(&challenge, b""));
        let source = SocketAddr::new(stranger.raw.address(), 999);
        let syn = wrong(Segment::syn(
            source,
            server_port(gate.family, gate.listener.port()),
        ));
        let pair = &gate.testbed.base.pair;
        let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
        for (frame, expected) in [(proof, &[][..]), (syn, &[(GuardUnanswered, 50)])] {
            let send = || Ok((0..50).try_for_each(|_| link.send(&frame))?);
            gate.counting(send, expected)?;
        }
        gate.counting(|| stranger.prove(&challenge, DATA), &[(GuardAccepted, 1)])?;
        gate.accept().map(drop)
    })
}

/// The present time slot.
fn slot(shift: u32) -> u64 {
    monotonic_coarse().as_nanos() as u64 >> shift
}

fn wait_for_slot(wanted: u64, shift: u32) {
    while slot(shift) < wanted {
        thread::sleep(Duration::from_millis(5));
    }
}

/// A challenge is valid in its time slot and the next one, also if secrets change.
fn a_challenge_expires(mode: Mode) -> Result<()> {
    in_each_family(|family| {
        let gate = Gate::with_slots(mode, family, Some(EXPIRY_SHIFT))?;
        let mut stranger = gate.stranger(0)?;
        for (later, good) in [(0, true), (1, true), (2, false), (4, false)] {
            let mut tries = 0;
            while !expires(&gate, &mut stranger, later, good)? {
                tries += 1;
                ensure!(tries < 20, "the machine is too slow for the time slots");
            }
        }
        Ok(())
    })
}

/// Time slots of 2^31 ns, 2.1 seconds.
const EXPIRY_SHIFT: u32 = 31;

/// Answers a challenge `later` slots after it. `false` if a slot ended too early, so that the try is inconclusive.
fn expires(gate: &Gate, stranger: &mut Stranger, later: u64, good: bool) -> Result<bool> {
    let shift = EXPIRY_SHIFT;
    let refresh = || {
        let server = &gate.testbed.base.pair.server;
        server.run(|| anyhow::Ok(Namespace::current()?.guard().refresh()?))
    };
    wait_for_slot(slot(shift) + 1, shift);
    let issued = slot(shift);
    // Else the next one would replace the secret of this slot, if the machine stalled for longer than secrets last.
    refresh()?;
    let challenge = stranger.knock()?;
    if slot(shift) != issued {
        return Ok(false);
    }
    for n in 0..=later {
        wait_for_slot(issued + n, shift);
        refresh()?;
    }
    let accepted = || anyhow::Ok(gate.testbed.counters()?.get(GuardAccepted));
    let before = accepted()?;
    stranger.prove(&challenge, DATA)?;
    gate.testbed.base.pair.barrier()?;
    let opened = accepted()? - before;
    let in_time = slot(shift) == issued + later;
    if opened != u64::from(good) && !in_time {
        gate.listener.reset_all()?;
        return Ok(false);
    }
    ensure!(opened == u64::from(good), "{later} slots later: {opened}");
    if good {
        drop(gate.accept()?);
    } else {
        gate.ensure_nobody()?;
    }
    Ok(true)
}

/// Connections succeed while time slots and secrets change.
fn renewed_secrets_cost_no_connection(mode: Mode) -> Result<()> {
    const SLOTS: u64 = 4;
    let gate = Gate::with_slots(mode, Family::V4, Some(EXPIRY_SHIFT))?;
    let pair = &gate.testbed.base.pair;
    let start = slot(EXPIRY_SHIFT);
    let mut renewed = start;
    let mut connections = 0;
    while slot(EXPIRY_SHIFT) < start + SLOTS {
        if slot(EXPIRY_SHIFT) > renewed {
            renewed = slot(EXPIRY_SHIFT);
            let refresh = || anyhow::Ok(Namespace::current()?.guard().refresh()?);
            pair.server.run(refresh)?;
        }
        Ends::connect(pair, &gate.listener, gate.family, Method::Plain)?;
        connections += 1;
    }
    println!("{connections} connections in {SLOTS} slots of time");
    Ok(())
}

/// As many forged ACKs as valid ones, from the same network: every client connects.
fn forged_acks_are_in_nobodys_way(mode: Mode) -> Result<()> {
    const CONNECTIONS: u64 = 200;
    in_each_family(|family| {
        let gate = Gate::new(mode, family)?;
        let pair = &gate.testbed.base.pair;
        let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
        let mut random = rng()?;
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
        gate.counting(connect, &expected)?;
        gate.ensure_nobody()
    })
}

/// An ACK without a connection.
fn forged(random: &mut fastrand::Rng, family: Family, port: u16) -> Segment {
    let source: IpAddr = family.spare(random.u8(..200));
    let source = SocketAddr::new(source, random.u16(1024..));
    let mut options = b"\x01\x01\x08\x0a".to_vec();
    options.extend(random.u64(..).to_be_bytes());
    Segment::new(source, server_port(family, port), flag::ACK)
        .numbers(random.u32(..), random.u32(..))
        .options(&options)
}

/// Concurrent clients, so that an ACK and its data arrive in one batch: each client opens one connection.
fn many_at_once(mode: Mode) -> Result<()> {
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
        "{} connections in {:?}, {of:?}",
        CLIENTS * EACH,
        start.elapsed()
    );
    // The number of retransmissions depends on the machine. The number of accepted proofs does not, and data behind a
    // proof is never counted as a wrong ACK.
    let counters = testbed.counters()?;
    let counted = [GuardAccepted, GuardWrongAcks].map(|counter| counters.get(counter));
    ensure!(counted == [CLIENTS * EACH, 0], "{counted:?}");
    Ok(())
}

in_each_mode! {
    a_syn_that_is_sent_again_has_the_same_answer;
    what_is_lost_is_made_up_for;
    an_ack_that_comes_again_opens_nothing_more;
    after_the_end_it_opens_another_connection;
    a_challenge_is_good_for_its_own_handshake_alone;
    a_wrong_checksum_proves_nothing;
    a_challenge_expires;
    renewed_secrets_cost_no_connection;
    forged_acks_are_in_nobodys_way;
    many_at_once;
}
