//! SYNs from many sources to many ports and listeners in turn, so that caches are not warm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tfo_testbed::{
    netns::Netns,
    packet::{Segment, cookie, fast_open, linux_options},
    program::Program,
    socket::Listener,
};
use tfo_userspace::model::{Mirror, Policy, Settings};

use crate::{
    cases::REQUEST,
    challenges::guard_of,
    data_path::{BACKUP, PORT, PRIMARY, entry, listening, settings},
    measure::{self, Effort, Hook, in_turns, on_first_cpu, progress},
    net::Cost,
    peers::Peer,
    report::{Report, Row, Section, Table},
    restore::Restore,
};

/// Frames of each kind: each of a source of its own.
const FRAMES: usize = 8192;
/// Ports, each of a listener of its own.
const PORTS: u16 = 512;

/// The frames of one kind, in the order in which they come.
type Frames = Vec<Vec<u8>>;

/// A kind of SYN and a data path, or the C program.
struct Case {
    name: &'static str,
    /// In front of an empty program, of the C program where there is one, and of the data path.
    empty: Restore,
    c: Option<Restore>,
    tfo: Restore,
    frame: Vec<u8>,
    verdict: u32,
    rounds: Vec<[Cost; 2]>,
    rounds_in_c: Vec<[Cost; 3]>,
    /// The target of the tail call, which is unloaded when this is dropped.
    _program: Program,
}

/// Measures every kind of SYN.
pub(crate) fn section(effort: &Effort, report: &mut Report) -> Result<Section> {
    let c = report.had("the equivalent C program", Peer::c(&[PRIMARY, BACKUP]));
    let (netns, _listener) = listening("mixed")?;
    let _listeners = listeners(&netns)?;
    let cases = netns.run(|| on_first_cpu(|| run(effort, c.as_ref())))?;
    let rows = cases
        .iter()
        .map(|case| Row::beside_empty(case.name, &case.rounds));
    let mut tables = vec![Table::beside_empty("Mixed SYNs", "SYN", rows.collect())];
    let in_c = cases.iter().filter(|case| case.c.is_some());
    let rows: Vec<_> = in_c
        .map(|case| Row::beside(case.name, &case.rounds_in_c))
        .collect();
    if !rows.is_empty() {
        let name = "Mixed SYNs beside an equal program in C";
        tables.push(Table::beside(name, "SYN", "C, Debian's clang", rows));
    }
    Ok(Section {
        title: "Mixed frames".into(),
        about: vec![about()],
        tables,
        plots: Vec::new(),
    })
}

fn about() -> String {
    format!(
        "Measured as a frame is, but each run has the next of {FRAMES} IPv4 SYNs, each from another source, to {PORTS} ports in\n\
        turn, each with a listener of its own. A program that puts the frame in place runs before all programs and is part of\n\
        all times, with the cache misses that fetching the frame costs; net figures are without it."
    )
}

/// Listeners at the other ports.
fn listeners(netns: &Netns) -> Result<Vec<Listener>> {
    let ports = (PORT + 1)..(PORT + PORTS);
    ports
        .map(|port| Listener::fast_open(netns, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)))
        .collect()
}

/// Frames whose options `options` gives for a source, to all ports in turn.
fn frames(options: impl Fn(IpAddr, IpAddr) -> Vec<u8>, data: &[u8]) -> Frames {
    /// Odd, so that each number comes once; large, so that neighbours in memory are none in time.
    const STRIDE: usize = 3_571;
    let server = IpAddr::from([198, 51, 100, 2]);
    let frame = |number: usize| {
        let number = number * STRIDE % FRAMES;
        // 198.18.0.0/15, which is for benchmarks (RFC 2544); a /24 each, as far as they reach.
        let source = 0xc612_0000 + ((number as u32 % 512) << 8) + number as u32 / 512;
        let client = IpAddr::from(Ipv4Addr::from(source));
        let port = PORT + (number * 31 % usize::from(PORTS)) as u16;
        let syn = Segment::syn((client, 50_000).into(), (server, port).into());
        let options = linux_options(&options(client, server));
        syn.options(&options).data(data).frame().to_vec()
    };
    (0..FRAMES).map(frame).collect()
}

impl Case {
    fn new(name: &'static str, program: Program, frames: &Frames, verdict: u32) -> Result<Self> {
        Ok(Self {
            name,
            empty: Restore::empty(Hook::Xdp, frames)?,
            c: None,
            tfo: Restore::before(entry(&program, Hook::Xdp)?, frames)?,
            frame: frames[0].clone(),
            verdict,
            rounds: Vec::new(),
            rounds_in_c: Vec::new(),
            _program: program,
        })
    }

    /// Beside `c` too.
    fn beside(mut self, c: Option<&Peer>, frames: &Frames) -> Result<Self> {
        let c = c.map(|c| Restore::before(measure::Program::Xdp(c.xdp()?), frames));
        self.c = c.transpose()?;
        Ok(self)
    }

    fn measure(&mut self, effort: &Effort, round: usize) -> Result<()> {
        let frame = &self.frame;
        let [empty, tfo] = [
            self.empty.passing(frame)?,
            self.tfo.measured(frame, self.verdict)?,
        ];
        let (costs, in_c) = match &self.c {
            Some(c) => {
                let [empty, c, tfo] =
                    in_turns([empty, c.passing(frame)?, tfo], effort.runs, round)?;
                ([empty, tfo], Some([empty, c, tfo]))
            }
            None => (in_turns([empty, tfo], effort.runs, round)?, None),
        };
        if round > 0 {
            self.rounds.push(costs);
            self.rounds_in_c.extend(in_c);
        }
        Ok(())
    }
}

fn cases(c: Option<&Peer>) -> Result<Vec<Case>> {
    let keys = [PRIMARY, BACKUP];
    let load = |mirror| Program::with_settings(settings(mirror), &keys);
    let bare = || load(Mirror::Packet);
    let plain = frames(|_, _| Vec::new(), &[]);
    let request = frames(|_, _| fast_open(&[]).to_vec(), &[]);
    let valid = |client, server| fast_open(&cookie(&PRIMARY, client, server)).to_vec();
    let valid = frames(valid, REQUEST);
    let mut passing = bare()?;
    passing.datapath().set_policy(Some(&Policy::default()))?;
    let guarded = || {
        let mut program = Program::guarding(settings(Mirror::Exact), &keys)?;
        program
            .datapath()
            .set_guard(Some(&guard_of(PORT..PORT + PORTS)))?;
        Ok::<_, anyhow::Error>(program)
    };
    let by_source = Program::with_settings(Settings::from(Mirror::Packet), &keys)?;
    let passes = Hook::Xdp.passes();
    Ok(vec![
        Case::new("no Fast Open", bare()?, &plain, passes)?.beside(c, &plain)?,
        Case::new("cookie request", bare()?, &request, passes)?.beside(c, &request)?,
        Case::new("valid cookie", bare()?, &valid, passes)?.beside(c, &valid)?,
        Case::new("valid cookie, by source", by_source, &valid, passes)?,
        Case::new("valid cookie, exact", load(Mirror::Exact)?, &valid, passes)?,
        Case::new("valid cookie, pass", passing, &valid, passes)?,
        Case::new("valid cookie, proven", guarded()?, &valid, passes)?,
        Case::new(
            "no Fast Open, challenged",
            guarded()?,
            &plain,
            Hook::Xdp.sends_back(),
        )?,
    ])
}

fn run(effort: &Effort, c: Option<&Peer>) -> Result<Vec<Case>> {
    let mut cases = cases(c)?;
    for round in 0..=effort.rounds {
        progress("mixed frames", round, effort);
        for case in &mut cases {
            case.measure(effort, round).with_context(|| case.name)?;
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_frame_has_a_source_of_its_own_and_each_port_its_share() {
        let frames = frames(|_, _| Vec::new(), &[]);
        let field = |at: usize, len: usize| -> HashSet<Vec<u8>> {
            frames
                .iter()
                .map(|frame| frame[at..at + len].to_vec())
                .collect()
        };
        assert_eq!(field(26, 4).len(), FRAMES);
        assert_eq!(field(36, 2).len(), usize::from(PORTS));
        assert!(frames.iter().all(|frame| frame.len() == frames[0].len()));
    }
}
