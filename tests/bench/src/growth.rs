//! Cost per frame against the number of ports, sources, listeners, prefixes, rules and keys.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tfo_common::{abi::COUNTER_SLOTS, fastopen::KeySet};
use tfo_testbed::{
    netns::Netns,
    packet::{Segment, fast_open, flag, linux_options},
    program::{KeyBytes, Program},
    socket::Listener,
};
use tfo_userspace::model::{Lists, Mirror, Policy, PortPolicy, Prefix};

use crate::{
    data_path::{PORT, settings},
    measure::{self, Effort, Measured, in_turns, on_first_cpu, progress},
    net::Cost,
    peers::Peer,
    report::{Plot, Row, Section, Spread, Table},
};

/// Offsets of the IPv4 source address and of the destination port.
const SOURCE_AT: usize = 14 + 12;
const PORT_AT: usize = 14 + 20 + 2;

/// Ratio of the largest size's net cost to the smallest's up to which a curve counts as flat.
const FLAT: f64 = 1.1;

/// One quantity, at several sizes.
struct Growth {
    name: &'static str,
    /// Reason for an expected increase.
    because: Option<&'static str>,
    steps: Vec<Step>,
}

/// A data path filled to one size.
struct Step {
    size: u32,
    program: Program,
    frame: Vec<u8>,
    /// Namespace and listeners of the socket lookup.
    netns: Option<(Netns, Vec<Listener>)>,
    /// Costs of the empty program and of the data path, of each round.
    rounds: Vec<[Cost; 2]>,
}

/// Measures every quantity at every size.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    println!("growth: filling maps, opening listeners");
    let mut growths = [
        ports()?,
        sources()?,
        listeners()?,
        prefixes()?,
        rules()?,
        keys()?,
    ];
    let empty = Peer::empty()?;
    for round in 0..=effort.rounds {
        progress("growth", round, effort);
        for step in growths.iter_mut().flat_map(|growth| &mut growth.steps) {
            let costs = step.measure(&empty, effort.runs, round)?;
            if round > 0 {
                step.rounds.push(costs);
            }
        }
    }
    let mut about = vec![ABOUT.to_owned()];
    about.extend(growths.iter().map(Growth::verdict));
    let plot = |file: &str, caption: &str, tables, over: &str| Plot {
        file: file.into(),
        caption: caption.into(),
        tables,
        over: Some(over.into()),
    };
    Ok(Section {
        title: "Growth".into(),
        about,
        tables: growths.iter().map(Growth::table).collect(),
        plots: vec![
            plot(
                "growth.svg",
                "Cost of a SYN by number of entries",
                vec![0, 1, 2, 3, 4],
                "entries",
            ),
            plot(
                "keys.svg",
                "Cost of an invalid cookie by number of keys",
                vec![5],
                "keys",
            ),
        ],
    })
}

const ABOUT: &str = "The same frame, measured as above, with more and more entries in the maps. Frames of other ports and sources\n\
    fill them first. All runs use the same frame, so caches are warm: the times do not include the cache misses\n\
    of a large map under mixed traffic.";

impl Step {
    fn new(size: u32, program: Program, frame: Vec<u8>) -> Self {
        Self {
            size,
            program,
            frame,
            netns: None,
            rounds: Vec::new(),
        }
    }

    fn measure(&self, empty: &Peer, runs: u32, round: usize) -> Result<[Cost; 2]> {
        let costs = || {
            let programs = [empty.xdp()?, self.program.xdp()?].map(measure::Program::Xdp);
            let measured = programs.map(|program| Measured::passing(program, &self.frame));
            in_turns(measured, runs, round)
        };
        match &self.netns {
            Some((netns, _)) => netns.run(|| on_first_cpu(costs)),
            None => on_first_cpu(costs),
        }
    }
}

impl Growth {
    fn table(&self) -> Table {
        let row = |step: &Step| Row::beside_empty(step.size.to_string(), &step.rounds);
        Table::beside_empty(self.name, "entries", self.steps.iter().map(row).collect())
    }

    /// A sentence that compares the largest size with the smallest.
    fn verdict(&self) -> String {
        let (Some(few), Some(many)) = (self.steps.first(), self.steps.last()) else {
            return String::new();
        };
        let net = |[empty, tfo]: &[Cost; 2]| tfo.nanoseconds - empty.nanoseconds;
        let rounds = few.rounds.iter().zip(&many.rounds);
        let times = Spread::of(rounds.map(|(few, many)| net(many) / net(few)));
        let Spread {
            median,
            least,
            most,
        } = times;
        // With noise, some rounds are cheaper at the largest size.
        let word = if median <= FLAT || least <= 1.0 {
            "flat"
        } else {
            "not flat"
        };
        let because = self.because.map_or(String::new(), |why| format!(" {why}"));
        let (name, few, many) = (self.name, few.size, many.size);
        format!(
            "{name}: {word}. With {many}, a SYN costs {median:.2} ({least:.2} to {most:.2}) times as much, net, as with {few}.{because}"
        )
    }
}

/// An IPv4 SYN with a cookie request.
fn request() -> Vec<u8> {
    syn(&fast_open(b""))
}

fn syn(option: &[u8]) -> Vec<u8> {
    let client = SocketAddr::new([192, 0, 2, 7].into(), 50_000);
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT);
    let segment = Segment::new(client, server, flag::SYN).options(&linux_options(option));
    segment.frame().to_vec()
}

fn ports() -> Result<Growth> {
    let slots = COUNTER_SLOTS as u32 - 1;
    let mut steps = Vec::new();
    for size in [1, 16, 256, slots, 65_536] {
        let program = Program::with_settings(settings(Mirror::Packet), &[])?;
        let mut frame = request();
        program.pass(&frame)?;
        for port in (0..=u16::MAX)
            .filter(|port| *port != PORT)
            .take(size as usize - 1)
        {
            frame[PORT_AT..PORT_AT + 2].copy_from_slice(&port.to_be_bytes());
            program.pass(&frame)?;
        }
        steps.push(Step::new(size, program, request()));
    }
    Ok(Growth {
        name: "Ports seen",
        because: None,
        steps,
    })
}

fn sources() -> Result<Growth> {
    let mut steps = Vec::new();
    for size in [1, 16, 256, 4096, 65_536] {
        let mut settings = settings(Mirror::Packet);
        settings.sources.max = 65_536;
        let program = Program::with_settings(settings, &[])?;
        let mut frame = request();
        for number in 1..size {
            let source: u32 = 0x0a00_0000 + number;
            frame[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&source.to_be_bytes());
            program.pass(&frame)?;
        }
        steps.push(Step::new(size, program, request()));
    }
    Ok(Growth {
        name: "Sources seen, of at most 65,536, counted by source",
        because: None,
        steps,
    })
}

fn listeners() -> Result<Growth> {
    raise_open_files()?;
    let mut steps = Vec::new();
    for size in [1, 10, 100, 1000] {
        let netns = Netns::new("many")?;
        netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        let ports = (PORT..).take(size as usize);
        let listeners = ports
            .map(|port| Listener::fast_open(&netns, (Ipv4Addr::UNSPECIFIED, port).into()))
            .collect::<Result<_>>()?;
        let program = Program::with_settings(settings(Mirror::Exact), &[])?;
        let mut step = Step::new(size, program, request());
        step.netns = Some((netns, listeners));
        steps.push(step);
    }
    Ok(Growth {
        name: "Listeners, one of them looked up",
        because: None,
        steps,
    })
}

fn prefixes() -> Result<Growth> {
    let policies = [1, 16, 256, 4096, 65_536].map(|size| {
        let others = (0..size).map(|number| Prefix {
            address: Ipv4Addr::from(0x0a00_0000 + 16 * number).into(),
            len: 28,
        });
        let lists = Lists {
            allow: Vec::new(),
            deny: others.collect(),
        };
        let policy = Policy {
            lists,
            ..Policy::default()
        };
        (size, policy)
    });
    under(
        "Prefixes on the deny list, none of them the source's",
        policies,
    )
}

fn rules() -> Result<Growth> {
    let policies = [1, 16, 256, 4096, 65_535].map(|size| {
        let others = (1..=u16::MAX).filter(|port| *port != PORT);
        let ports = others.take(size as usize - 1).chain([PORT]);
        let policy = Policy {
            ports: ports.map(|port| (port, PortPolicy::default())).collect(),
            ..Policy::default()
        };
        (size, policy)
    });
    under("Policy rules, one of them the port's", policies)
}

fn under(name: &'static str, policies: [(u32, Policy); 5]) -> Result<Growth> {
    let mut steps = Vec::new();
    for (size, policy) in policies {
        let mut program = Program::with_settings(settings(Mirror::Packet), &[])?;
        program.datapath().set_policy(Some(&policy))?;
        steps.push(Step::new(size, program, request()));
    }
    Ok(Growth {
        name,
        because: None,
        steps,
    })
}

fn keys() -> Result<Growth> {
    let mut steps = Vec::new();
    for size in 1..=KeySet::MAX {
        let keys: Vec<_> = (0..size)
            .map(|number| [number as u8; size_of::<KeyBytes>()])
            .collect();
        let program = Program::with_settings(settings(Mirror::Packet), &keys)?;
        steps.push(Step::new(
            size as u32,
            program,
            syn(&fast_open(b"no one's")),
        ));
    }
    Ok(Growth {
        name: "Keys that an invalid cookie is held against",
        because: Some(
            "Each key costs one SipHash; the search ends at the first match, and 2 to 3 keys are usual.",
        ),
        steps,
    })
}

/// Raises the soft limit of open files to the hard limit: each listener is a file.
fn raise_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}
