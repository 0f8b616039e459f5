//! Latency that TCP Fast Open saves, with and without the data path attached.

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

/// One-way delay of the line.
const ONE_WAY: Duration = Duration::from_millis(20);

/// Attempts per connection.
const TRIES: usize = 3;

/// Methods to compare, by row name.
const METHODS: [(&str, Method); 2] = [
    ("no Fast Open", Method::Plain),
    ("Fast Open", Method::SendTo),
];

/// One row: family, method, and data path attached or not.
struct Way<'a> {
    name: String,
    family: Family,
    listener: &'a Listener,
    method: Method,
    attached: bool,
    samples: Vec<Sample>,
}

/// Measures the time from connect to reply, in round trips.
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
        // The client obtains its cookie.
        testbed.request_cookie(&listener, family)?;
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
            yardstick: Some("one round trip: connect(2)".into()),
            subject: "connect to reply".into(),
            more_is_better: false,
            net: None,
            rows,
        }],
        plots: vec![Plot {
            file: "saving.svg".into(),
            caption: "Time from connect to reply, in round trips (lower is better)".into(),
            tables: vec![0],
            over: None,
        }],
    })
}

const ABOUT: &str = "A client, a server, and a forwarder in user space between them that delays every frame by 20 ms each way. It adds\n\
    some latency, so a round trip takes a little longer than 40 ms: a plain connect(2) right before each measurement\n\
    is the baseline. A reply takes two round trips without Fast Open, and one with a cookie. The client has its\n\
    cookie already.";

impl Way<'_> {
    /// If the machine stalls for a second, the kernel retransmits the SYN without option and data. Such a connection
    /// does not count and is repeated.
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

/// Duration of the client's connect(2), in milliseconds.
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
