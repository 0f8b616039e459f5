//! Cost of own cookies per packet.

use std::net::Ipv4Addr;

use anyhow::Result;
use tfo_common::wire::addresses::Addresses;
use tfo_testbed::{
    own_cookies,
    packet::{Segment, cookie, fast_open, flag},
    program::Program,
};
use tfo_userspace::model::Mirror;

use crate::{
    data_path::{BACKUP, PORT, PRIMARY, entry, listening, settings},
    measure::{self, Effort, Hook, Measured, in_turns, on_first_cpu, progress},
    net::Cost,
    peers::EmptyTc,
    report::{Row, Table},
    restore::Restore,
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

/// Costs of every case and of an empty program, and of a packet that leaves beside one that comes.
pub(crate) fn tables(effort: &Effort) -> Result<Vec<Table>> {
    // The translation looks up the listener.
    let (netns, _listener) = listening("own")?;
    netns.run(|| on_first_cpu(|| run(effort)))
}

fn run(effort: &Effort) -> Result<Vec<Table>> {
    let mut tfo = Program::translating(settings(Mirror::Exact), &[PRIMARY, BACKUP])?;
    let (cases, rules) = (cases(), own_cookies::fixed());
    let empty_tc = EmptyTc::load()?;
    let frame = &cases[0].frame;
    let mut empty = Restore::empty(Hook::Xdp, &[frame])?;
    let mut before = Restore::before(entry(&tfo, Hook::Xdp)?, &[frame])?;
    let mut rounds = vec![Vec::new(); cases.len()];
    let mut leaving = Vec::new();
    for round in 0..=effort.rounds {
        progress("own cookies", round, effort);
        for (case, rounds) in cases.iter().zip(&mut rounds) {
            let rules = case.on.then_some(&rules);
            tfo.datapath().set_own_cookies(rules)?;
            for restore in [&mut empty, &mut before] {
                restore.set_frames(&[&case.frame])?;
            }
            let measured = [empty.passing(&case.frame)?, before.passing(&case.frame)?];
            let costs = in_turns(measured, effort.runs, round)?;
            if round > 0 {
                rounds.push(costs);
            }
        }
        let costs = ack(&tfo, empty_tc.program()?, effort.runs, round)?;
        if round > 0 {
            leaving.push(costs);
        }
    }
    let rows = cases.iter().zip(&rounds);
    let rows = rows.map(|(case, rounds)| Row::beside_empty(case.name, rounds));
    Ok(vec![
        Table::beside_empty("A SYN with data and own cookies", "SYN", rows.collect()),
        Table::beside(
            "A TCP ACK that leaves by the program that issues",
            "packet",
            "the same on ingress",
            vec![Row::beside("on egress", &leaving)],
        ),
    ])
}

/// Costs of an ACK to an empty program, on ingress and on egress.
fn ack(tfo: &Program, empty: measure::Program<'_>, runs: u32, round: usize) -> Result<[Cost; 3]> {
    let timestamps = b"\x01\x01\x08\x0a\x5c\x3f\x10\x9a\x10\x2b\x3c\x4d";
    let frame = segment(flag::ACK).options(timestamps).padded_frame();
    let (ingress, egress) = tfo.classifiers()?;
    let [ingress, egress] = [ingress, egress].map(measure::Program::Tc);
    let programs = [empty, ingress, egress];
    in_turns(
        programs.map(|program| Measured::passing(program, &frame)),
        runs,
        round,
    )
}
