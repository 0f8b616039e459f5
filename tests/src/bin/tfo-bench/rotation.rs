//! What it costs clients that keys change.

use std::{
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tfo_tests::{
    bed::{Bed, exchange},
    socket::Method,
    veth::Family,
};

use crate::{
    measure::Effort,
    report::{Row, Section, Table},
};

/// How long a client may take for two connections.
const LIMIT: Duration = Duration::from_secs(30);

/// Clients that connect with their cookies until it is enough.
#[derive(Default)]
struct Clients {
    done: AtomicBool,
    connections: [AtomicU32; 2],
    refused: AtomicU32,
}

impl Clients {
    fn run(&self, bed: &Bed, index: usize) -> Result<()> {
        let family = Family::BOTH[index];
        let listener = bed.listen(family)?;
        bed.after_handshake(&listener, family, Method::SendTo)?;
        while !self.done.load(Ordering::Relaxed) {
            let exchange = exchange(&bed.pair, &listener, family, Method::SendTo)?;
            if !exchange.in_syn {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            self.connections[index].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn connected(&self) -> [u32; 2] {
        [0, 1].map(|index: usize| self.connections[index].load(Ordering::Relaxed))
    }

    /// Waits until each came twice: one that stays away for two rotations loses its cookie by design.
    fn wait(&self, ended: impl Fn() -> bool) -> Result<()> {
        let before = self.connected();
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            ensure!(!ended(), "a client ended");
            let now = self.connected();
            if now
                .iter()
                .zip(before)
                .all(|(now, before)| *now >= before + 2)
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("the clients do not connect any more")
    }
}

/// Rotates keys under load.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    let bed = Bed::new()?;
    let clients = Clients::default();
    let mut times = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let threads = [0, 1].map(|index| {
            let (bed, clients) = (&bed, &clients);
            scope.spawn(move || clients.run(bed, index))
        });
        let rotated = (1..=effort.rotations).try_for_each(|number| {
            if number % 100 == 1 {
                println!("rotation: {number} of {}", effort.rotations);
            }
            clients.wait(|| threads.iter().any(thread::ScopedJoinHandle::is_finished))?;
            let start = Instant::now();
            bed.tfo.done(&["keys", "rotate"])?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            Ok(())
        });
        clients.done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        rotated
    })?;
    let connections: u32 = clients.connected().iter().sum();
    let refused = clients.refused.load(Ordering::Relaxed);
    let failed = bed.kernel()?.get("TCPFastOpenPassiveFail");
    let rotations = effort.rotations;
    let table = |name: &str, of: &str, unit: &str, rows| Table {
        name: name.into(),
        of: of.into(),
        unit: unit.into(),
        rows,
        ..Table::default()
    };
    let counts = [
        ("rotations", f64::from(rotations)),
        ("connections with a cookie", f64::from(connections)),
        ("cookies refused, as the clients saw", f64::from(refused)),
        ("cookies refused, as the kernel counted", failed as f64),
    ];
    let counts = counts.map(|(name, count)| Row::single(name, [count]));
    let rows = vec![Row::single("tfo keys rotate", times)];
    Ok(Section {
        title: "Rotation of keys".into(),
        about: vec![ABOUT.into()],
        tables: vec![
            table("Under load", "what", "number", counts.into()),
            table("Time", "command", "milliseconds", rows),
        ],
        plots: Vec::new(),
    })
}

const ABOUT: &str = "Two clients, of IPv4 and IPv6, connect with their cookies without a pause, each at least twice between any\n\
    two rotations. The time is that of the whole command, under that load.";
