//! What Fast Open saves, and that the data path takes nothing of it away.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    socket::{Listener, Method},
    testbed::Testbed,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

use crate::{
    measure::{Effort, progress},
    report::{Plot, Row, Sample, Section, Table},
};

/// How long the line holds a frame.
const ONE_WAY: Duration = Duration::from_millis(20);

/// How often a connection is tried that is not to fail.
const TRIES: usize = 3;

/// How a client connects.
const METHODS: [(&str, Method); 2] = [
    ("no Fast Open", Method::Plain),
    ("Fast Open", Method::SendTo),
];

/// Connections of one kind.
struct Way<'a> {
    name: String,
    family: Family,
    listener: &'a Listener,
    method: Method,
    attached: bool,
    samples: Vec<Sample>,
}

/// The time from connecting to the reply, in round trips.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    let testbed = Testbed::idle(Pair::delayed(ONE_WAY)?)?;
    let listener = testbed.listen(Family::V6)?;
    let mut ways = Vec::new();
    for (attached, suffix) in [(false, ""), (true, ", tfo attached")] {
        for family in Family::BOTH {
            ways.extend(METHODS.map(|(name, method)| Way {
                name: format!("{family}, {name}{suffix}"),
                family,
                listener: &listener,
                method,
                attached,
                samples: Vec::new(),
            }));
        }
    }
    for family in Family::BOTH {
        // The client gets its cookie.
        testbed.after_handshake(&listener, family, Method::SendTo)?;
    }
    for round in 0..=effort.rounds {
        progress("saving", round, effort);
        for attached in [false, true] {
            if attached {
                testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
            }
            for way in ways.iter_mut().filter(|way| way.attached == attached) {
                let sample = way.measure(&testbed)?;
                if round > 0 {
                    way.samples.push(sample);
                }
            }
        }
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    }
    let rows = ways.iter().map(|way| Row::paired(&way.name, &way.samples));
    let rows = rows.collect();
    Ok(Section {
        title: "What Fast Open saves".into(),
        about: vec![ABOUT.into()],
        tables: vec![Table {
            name: "Request and reply, in round trips".into(),
            of: "connection".into(),
            unit: "milliseconds".into(),
            yardstick: Some("a round trip: connect(2)".into()),
            subject: "from connecting to the reply".into(),
            more_is_better: false,
            rows,
        }],
        plots: vec![Plot {
            file: "saving.svg".into(),
            caption: "From connecting to the reply, in round trips (less is better)".into(),
            tables: vec![0],
            over: None,
        }],
    })
}

const ABOUT: &str = "A client, a server, and between them a line that holds every frame for 20 ms each way. It is a forwarder in\n\
    user space, in a namespace of its own, so a round trip is a little longer than 40 ms; what it really is, a\n\
    plain connect(2) right before shows, and that is the yardstick. A client without Fast Open has its reply after\n\
    two round trips, one with a cookie after one. The client has its cookie already.";

impl Way<'_> {
    /// A machine that stalls for a second has SYNs sent again, without option and data: such a connection is
    /// none of this kind, and another one is made.
    fn measure(&self, testbed: &Testbed) -> Result<Sample> {
        let mut sample = self.sample(testbed);
        for _ in 1..TRIES {
            if sample.is_err() {
                sample = self.sample(testbed);
            }
        }
        sample
    }

    fn sample(&self, testbed: &Testbed) -> Result<Sample> {
        let yardstick = round_trip(testbed, self.listener, self.family)?;
        let exchange = testbed.exchange(self.listener, self.family, self.method)?;
        let fast_open = self.method != Method::Plain;
        ensure!(exchange.in_syn == fast_open, "{}: {exchange:?}", self.name);
        Ok(Sample {
            yardstick,
            subject: exchange.took.as_secs_f64() * 1e3,
        })
    }
}

/// How long a handshake takes the client, in milliseconds.
fn round_trip(testbed: &Testbed, listener: &Listener, family: Family) -> Result<f64> {
    let server = server_port(family, listener.port());
    let (stream, took) = testbed.pair.client.run(|| -> Result<_> {
        let start = Instant::now();
        Ok((TcpStream::connect(server)?, start.elapsed()))
    })?;
    listener.accept()?;
    drop(stream);
    Ok(took.as_secs_f64() * 1e3)
}
