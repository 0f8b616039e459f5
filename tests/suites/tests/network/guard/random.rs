//! Forged ACKs are never accepted.

use std::{env, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunOptions};
use fastrand::Rng;
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    packet::{Segment, flag},
    seed::rng,
    veth::{Family, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use super::{
    stranger::Stranger,
    testbed::{GuardTestbed, grown},
};

/// Number of ACKs: `TFO_ACKS`, else this. 10,000,000 take a minute on an idle machine.
const ACKS: u64 = 1_000_000;
/// `TCX_DROP`.
const DROP: u32 = 2;

/// The TC program that checks proofs, the same in every mode, run on one frame at a time.
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

/// Forges ACKs from one client to the listener. The checksum is not updated: TCP checks it after the guard.
struct Forger {
    frame: Vec<u8>,
    tcp: usize,
    /// Offset of the timestamp option, if there is one.
    timestamps: Option<usize>,
}

impl Forger {
    fn new(family: Family, port: u16, timestamps: bool) -> Self {
        let client = SocketAddr::new(family.spare(0), 20_000);
        let ack = Segment::new(client, server_port(family, port), flag::ACK);
        let options: &[u8] = if timestamps {
            b"\x01\x01\x08\x0a........"
        } else {
            &[]
        };
        let tcp = if family == Family::V4 { 34 } else { 54 };
        Self {
            frame: ack.options(options).frame().to_vec(),
            tcp,
            timestamps: timestamps.then_some(tcp + 20 + 4),
        }
    }

    /// The next ACK, with random port, sequence numbers and timestamps.
    fn next(&mut self, random: &mut Rng) -> &[u8] {
        let port = random.u16(1024..).to_be_bytes();
        self.frame[self.tcp..][..2].copy_from_slice(&port);
        self.frame[self.tcp + 4..][..8].copy_from_slice(&random.u64(..).to_ne_bytes());
        if let Some(at) = self.timestamps {
            self.frame[at..][..8].copy_from_slice(&random.u64(..).to_ne_bytes());
        }
        &self.frame
    }
}

#[test]
fn none_of_a_million_acks_passes() -> Result<()> {
    let acks = env::var("TFO_ACKS").map_or(Ok(ACKS), |number| number.parse())?;
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let listener = testbed.base.listen(Family::V6)?;
    testbed.guard(listener.port(), "on", &[])?;
    let stranger =
        |family, number| Stranger::new(&testbed.base.pair, family, number, listener.port());
    // ACKs are looked at while challenges may be answered.
    stranger(Family::V6, 0)?.knock()?;
    let program = Program::of(&testbed)?;
    let before = testbed.counters()?;
    let mut random = rng()?;
    let server = &testbed.base.pair.server;
    let dropped = server.run(|| -> Result<u64> {
        let mut dropped = 0;
        for family in Family::BOTH {
            for timestamps in [true, false] {
                let mut forger = Forger::new(family, listener.port(), timestamps);
                for _ in 0..acks / 4 {
                    dropped += u64::from(program.run(forger.next(&mut random))? == DROP);
                }
            }
        }
        Ok(dropped)
    })?;
    // The first ones, and some each second, get a reset of the kernel's.
    let wrong = acks / 4 * 4;
    ensure!(dropped > 0 && dropped < wrong, "{dropped} of {wrong}");
    let counted = grown(&before, &testbed.counters()?);
    ensure!(
        counted == [(GuardWrongAcks, wrong), (GuardDropped, dropped)],
        "{counted:?}: {dropped} of {wrong}"
    );

    // A valid proof passes the check. The kernel then opens no connection in a test run, which the counters show.
    for family in Family::BOTH {
        for mut stranger in [
            stranger(family, 0)?,
            stranger(family, 1)?.without_timestamps(),
        ] {
            let challenge = stranger.knock()?;
            let ack = stranger.proof(&challenge, b"").frame();
            let before = testbed.counters()?;
            let verdict = server.run(|| program.run(&ack))?;
            let grown = grown(&before, &testbed.counters()?);
            ensure!(
                verdict != DROP && grown == [(GuardRefused, 1)],
                "{family}: verdict {verdict}, {grown:?} of {challenge:?}"
            );
        }
    }
    Ok(())
}
