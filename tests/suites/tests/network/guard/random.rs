//! ACKs that are made up never pass as proof, however many there are.

use std::{env, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunOptions};
use fastrand::Rng;
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    packet::{Segment, flag},
    veth::{Family, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use super::{
    stranger::Stranger,
    testbed::{GuardTestbed, grown},
};

/// How many are made up; `TFO_ACKS` says otherwise, such as the 10,000,000 that take a minute on an idle machine.
const ACKS: u64 = 1_000_000;
/// The verdict that ends a packet: `TCX_DROP`.
const DROP: u32 = 2;

/// The program that takes proof, run on one frame at a time.
struct Program(SchedClassifier);

impl Program {
    fn of(testbed: &GuardTestbed) -> Result<Self> {
        let ingress = TcAttachType::Ingress;
        let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, ingress);
        let (_, programs) = testbed.base.pair.server.run(query)?;
        let info = programs.into_iter().next().context("no program")?;
        Ok(Self(SchedClassifier::from_program_info(
            info,
            "tfo".into(),
        )?))
    }

    fn run(&self, frame: &[u8]) -> Result<u32> {
        let result = self.0.test_run(TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::default()
        })?;
        Ok(result.return_value)
    }
}

/// ACKs of one client to the listener, whose numbers are changed without a new checksum: nobody looks at it before
/// TCP does.
struct Forger {
    frame: Vec<u8>,
    tcp: usize,
    /// Where the timestamp that is echoed stands.
    echo: usize,
}

impl Forger {
    fn new(family: Family, port: u16) -> Self {
        let client = SocketAddr::new(family.spare(0), 20_000);
        let ack = Segment::new(client, server_port(family, port), flag::ACK);
        let frame = ack.options(b"\x01\x01\x08\x0a........").frame().to_vec();
        let tcp = if family == Family::V4 { 34 } else { 54 };
        Self {
            frame,
            tcp,
            echo: tcp + 20 + 8,
        }
    }

    /// Random ports, sequence numbers and timestamps.
    fn next(&mut self, random: &mut Rng) -> &[u8] {
        let port = random.u16(1024..).to_be_bytes();
        self.frame[self.tcp..][..2].copy_from_slice(&port);
        self.frame[self.tcp + 4..][..8].copy_from_slice(&random.u64(..).to_ne_bytes());
        self.frame[self.echo - 4..][..8].copy_from_slice(&random.u64(..).to_ne_bytes());
        &self.frame
    }
}

#[test]
fn none_of_a_million_acks_passes() -> Result<()> {
    let acks = env::var("TFO_ACKS").map_or(Ok(ACKS), |number| number.parse())?;
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let listener = testbed.base.listen(Family::V6)?;
    testbed.guard(listener.port(), "on", &[])?;
    testbed.past_grace(listener.port())?;
    let program = Program::of(&testbed)?;
    let before = testbed.counters()?;
    let mut random = Rng::new();
    let server = &testbed.base.pair.server;
    server.run(|| -> Result<()> {
        for family in Family::BOTH {
            let mut forger = Forger::new(family, listener.port());
            for _ in 0..acks / 2 {
                let frame = forger.next(&mut random);
                let verdict = program.run(frame)?;
                ensure!(verdict == DROP, "verdict {verdict} for {frame:02x?}");
            }
        }
        Ok(())
    })?;
    let wrong = acks / 2 * 2;
    let now = testbed.counters()?;
    ensure!(grown(&before, &now) == [(GuardWrongAcks, wrong)]);

    // One that is true passes: the kernel opens no connection for a packet that never arrived, and says so.
    for family in Family::BOTH {
        let mut stranger = Stranger::new(&testbed.base.pair, family, 0, listener.port())?;
        let challenge = stranger.knock()?;
        let ack = stranger.proof(&challenge, b"").frame();
        let before = testbed.counters()?;
        let verdict = server.run(|| program.run(&ack))?;
        let grown = grown(&before, &testbed.counters()?);
        ensure!(
            verdict != DROP && grown == [(GuardRefused, 1)],
            "{family}: verdict {verdict}, {grown:?}"
        );
    }
    Ok(())
}
