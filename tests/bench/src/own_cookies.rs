//! Cost of own cookies per packet.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use tfo_common::wire::addresses::Addresses;
use tfo_testbed::{
    keys,
    netns::Netns,
    own_cookies,
    packet::{Segment, cookie, fast_open, flag},
    program::{PASS, Program},
    socket::Listener,
};
use tfo_userspace::model::{Mirror, Settings};

use crate::{
    cases::{BACKUP, PORT, PRIMARY},
    frames::text,
    measure::{Effort, cpu_time, on_first_cpu, progress, time_with},
    peers::Restore,
    report::{Row, Sample, Table},
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// A SYN, and whether own cookies are in force.
struct Case {
    name: &'static str,
    on: bool,
    frame: Vec<u8>,
}

fn segment(flags: u8) -> Segment {
    Segment::new((CLIENT, 50_000).into(), (SERVER, PORT).into(), flags)
}

fn cases() -> Vec<Case> {
    let syn = |cookie: &[u8]| {
        let syn = segment(flag::SYN).options(&fast_open(cookie));
        syn.data(b"GET / HTTP/1.1").frame().to_vec()
    };
    let kernels = cookie(&PRIMARY, CLIENT.into(), SERVER.into());
    let addresses = Addresses::v4(CLIENT.octets(), SERVER.octets());
    let own = |slots| own_cookies::issued(&addresses, slots).to_bytes();
    let case = |name, on, cookie: &[u8]| Case {
        name,
        on,
        frame: syn(cookie),
    };
    vec![
        case(
            "a valid cookie of the kernel's, no own cookies",
            false,
            &kernels,
        ),
        case("a valid cookie of the kernel's", true, &kernels),
        case("an own cookie, young", true, &own(0)),
        case("an own cookie, old", true, &own(own_cookies::LIFETIME)),
        case(
            "an own cookie, expired",
            true,
            &own(own_cookies::LIFETIME + 1),
        ),
    ]
}

/// Times of every case and of an empty program, and of a packet that leaves beside one that comes.
pub(crate) fn tables(effort: &Effort) -> Result<Vec<Table>> {
    // The translation looks up the listener.
    let netns = Netns::new("own")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    netns.run(|| on_first_cpu(|| run(effort)))
}

fn run(effort: &Effort) -> Result<Vec<Table>> {
    let mut settings = Settings::from(Mirror::Exact);
    settings.sources.max = 0;
    let mut tfo = Program::translating(settings, &[PRIMARY, BACKUP])?;
    let (cases, rules) = (cases(), own_cookies::fixed());
    let mut samples = vec![Vec::new(); cases.len()];
    let mut leaving = Vec::new();
    for round in 0..=effort.rounds {
        progress("own cookies", round, effort);
        for (case, samples) in cases.iter().zip(&mut samples) {
            let rules = case.on.then_some(&rules);
            tfo.datapath().set_own_cookies(rules)?;
            let mut restore = Restore::new(&case.frame)?;
            restore.jump_to_empty()?;
            let yardstick = time_with(restore.xdp()?, &case.frame, effort.runs, PASS)?;
            restore.jump_to(tfo.xdp()?)?;
            let subject = time_with(restore.xdp()?, &case.frame, effort.runs, PASS)?;
            if round > 0 {
                samples.push(Sample { yardstick, subject });
            }
        }
        let sample = ack(&tfo, effort.runs)?;
        if round > 0 {
            leaving.push(sample);
        }
    }
    let rows = cases.iter().zip(&samples);
    let rows = rows.map(|(case, samples)| Row::paired(case.name, samples));
    Ok(vec![
        Table::beside_empty("A SYN with data and own cookies", "SYN", rows.collect()),
        Table {
            yardstick: Some("the same on ingress".into()),
            ..Table::beside_empty(
                "A TCP ACK that leaves by the program that issues",
                "packet",
                vec![Row::paired("on egress", &leaving)],
            )
        },
    ])
}

/// Times of an ACK on ingress and on egress.
fn ack(tfo: &Program, runs: u32) -> Result<Sample> {
    let timestamps = b"\x01\x01\x08\x0a\x5c\x3f\x10\x9a\x10\x2b\x3c\x4d";
    let frame = segment(flag::ACK).options(timestamps).padded_frame();
    let (ingress, egress) = tfo.classifiers()?;
    Ok(Sample {
        yardstick: time_classifier(ingress, &frame, runs)?,
        subject: time_classifier(egress, &frame, runs)?,
    })
}

fn time_classifier(program: &SchedClassifier, frame: &[u8], runs: u32) -> Result<f64> {
    let start = cpu_time()?;
    program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: runs,
            ..TestRunOptions::default()
        })
        .context("a TC program")?;
    let took = cpu_time()?.saturating_sub(start);
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}
