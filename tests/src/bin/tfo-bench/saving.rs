//! What Fast Open saves, and that the data path takes nothing of it away.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_tests::{
    bed::Bed,
    socket::{Listener, Method},
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

use crate::{
    measure::{Effort, progress},
    report::{Row, Sample, Section, Table},
};

/// How long the line holds a frame.
const ONE_WAY: Duration = Duration::from_millis(20);

/// What is measured: its name, how the client connects, and whether `tfo` is attached.
const WAYS: [(&str, Method, bool); 4] = [
    ("no Fast Open", Method::Plain, false),
    ("Fast Open", Method::SendTo, false),
    ("no Fast Open, tfo attached", Method::Plain, true),
    ("Fast Open, tfo attached", Method::SendTo, true),
];

/// The time from connecting to the reply, in round trips.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    let bed = Bed::idle(Pair::delayed(ONE_WAY)?)?;
    let mut rows = Vec::new();
    for family in Family::BOTH {
        let listener = bed.listen(family)?;
        // The client gets its cookie.
        bed.after_handshake(&listener, family, Method::SendTo)?;
        let mut samples = WAYS.map(|_| Vec::new());
        for round in 0..=effort.rounds {
            progress(&format!("saving, {family}"), round, effort);
            for ((_, method, attached), samples) in WAYS.iter().zip(&mut samples) {
                let sample = measure(&bed, &listener, family, *method, *attached)?;
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        let named = WAYS.iter().zip(&samples);
        rows.extend(
            named.map(|((name, ..), samples)| Row::paired(format!("{family}, {name}"), samples)),
        );
    }
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
        plots: Vec::new(),
    })
}

const ABOUT: &str = "A client, a server, and between them a line that holds every frame for 20 ms each way. It is a forwarder in\n\
    user space, in a namespace of its own, so a round trip is a little longer than 40 ms; what it really is, a\n\
    plain connect(2) right before shows, and that is the yardstick. A client without Fast Open has its reply after\n\
    two round trips, one with a cookie after one. The client has its cookie already.";

fn measure(
    bed: &Bed,
    listener: &Listener,
    family: Family,
    method: Method,
    attached: bool,
) -> Result<Sample> {
    if attached {
        bed.tfo.done(&["attach", SERVER_INTERFACE])?;
    }
    let yardstick = round_trip(bed, listener, family)?;
    let exchange = bed.exchange(listener, family, method)?;
    let fast_open = method != Method::Plain;
    ensure!(exchange.in_syn == fast_open, "{method:?}: {exchange:?}");
    if attached {
        bed.tfo.done(&["detach", SERVER_INTERFACE])?;
    }
    Ok(Sample {
        yardstick,
        subject: exchange.took.as_secs_f64() * 1e3,
    })
}

/// How long a handshake takes the client, in milliseconds.
fn round_trip(bed: &Bed, listener: &Listener, family: Family) -> Result<f64> {
    let server = server_port(family, listener.port());
    let (stream, took) = bed.pair.client.run(|| -> Result<_> {
        let start = Instant::now();
        Ok((TcpStream::connect(server)?, start.elapsed()))
    })?;
    listener.accept()?;
    drop(stream);
    Ok(took.as_secs_f64() * 1e3)
}
