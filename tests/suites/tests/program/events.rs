//! SYN events: content, filters, rate and loss.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    abi::events::Event, classify::Outcome, counters::Counter, fastopen::own::OwnCookie,
};
use tfo_testbed::{
    packet::{Segment, cookie, fast_open},
    program::{KeyBytes, Program},
};
use tfo_userspace::{
    datapath::{EventFilter, EventStream, Lost},
    kernel::clock::monotonic,
};

const KEY: KeyBytes = *b"the one key here";

fn addresses() -> [(SocketAddr, SocketAddr); 2] {
    let address = |text: &str| text.parse().expect("an address");
    [
        (address("192.0.2.7:2000"), address("198.51.100.2:443")),
        (address("[2001:db8:1::7]:2001"), address("[fd77::1]:8443")),
    ]
}

fn all(stream: &mut EventStream) -> Vec<Event> {
    std::iter::from_fn(|| stream.next_event()).collect()
}

#[test]
fn a_listener_hears_of_every_syn_that_concerns_it() -> Result<()> {
    let mut program = Program::with_keys(&[KEY])?;
    let mut stream = program.datapath().take_events(EventFilter::default())?;
    stream.listen()?;
    for (client, server) in addresses() {
        let syn = Segment::syn(client, server);
        let valid = fast_open(&cookie(&KEY, client.ip(), server.ip()));
        let start = monotonic();
        program.pass(&syn.frame())?;
        program.pass(&syn.clone().data(b"abc").frame())?;
        program.pass(&syn.clone().options(&fast_open(b"")).frame())?;
        program.pass(&syn.clone().options(&valid).data(b"abcd").frame())?;
        program.pass(&syn.clone().options(&fast_open(b"no cooki")).frame())?;
        program.pass(&syn.clone().options(&fast_open(b"x")).frame())?;
        let events = all(&mut stream);
        let told: Vec<_> = events
            .iter()
            .map(|event| (event.outcome(), event.data_len, event.reason()))
            .collect();
        assert_eq!(
            told,
            [
                (Outcome::NoOption, 3, None),
                (Outcome::Request, 0, None),
                (Outcome::Primary, 4, None),
                (Outcome::BadCookie, 0, Some(Counter::ReasonBadCookie)),
                (Outcome::Malformed, 0, Some(Counter::ReasonMalformed)),
            ]
        );
        for event in &events {
            let from = SocketAddr::new(event.source.ip(), event.source_port());
            let to = SocketAddr::new(event.destination.ip(), event.destination_port());
            assert_eq!((from, to), (client, server));
            let time = Duration::from_nanos(event.time);
            assert!(start <= time && time <= monotonic());
        }
        assert!(events.is_sorted_by_key(|event| event.time));
    }
    assert_eq!(stream.lost()?, Lost::default());
    Ok(())
}

#[test]
fn filters_are_the_programs() -> Result<()> {
    let [(client, server), (_, other)] = addresses();
    let other = SocketAddr::new(server.ip(), other.port());
    for (filter, expected) in [
        (EventFilter::default(), 4),
        (
            EventFilter {
                own_cookie: Some(OwnCookie::Expired),
                ..EventFilter::default()
            },
            0,
        ),
        (
            EventFilter {
                port: Some(443),
                ..EventFilter::default()
            },
            2,
        ),
        (
            EventFilter {
                reason: Some(Counter::ReasonBadCookie),
                ..EventFilter::default()
            },
            2,
        ),
        (
            EventFilter {
                port: Some(443),
                reason: Some(Counter::ReasonBadCookie),
                // Filtered SYNs do not count against the rate.
                rate: 1,
                ..EventFilter::default()
            },
            1,
        ),
    ] {
        let mut program = Program::with_keys(&[KEY])?;
        let mut stream = program.datapath().take_events(filter)?;
        stream.listen()?;
        for server in [server, other] {
            let syn = Segment::syn(client, server);
            program.pass(&syn.clone().options(&fast_open(b"")).frame())?;
            program.pass(&syn.options(&fast_open(b"no cooki")).frame())?;
        }
        assert_eq!(all(&mut stream).len(), expected, "{filter:?}");
        assert_eq!(stream.lost()?, Lost::default());
    }
    Ok(())
}

/// Without a reader no event is sent: before the first, after one has stopped, and some time after one was killed.
#[test]
fn nothing_is_told_to_nobody() -> Result<()> {
    let (client, server) = addresses()[0];
    let frame = Segment::syn(client, server)
        .options(&fast_open(b""))
        .frame();
    let mut program = Program::with_keys(&[KEY])?;
    let mut stream = program.datapath().take_events(EventFilter::default())?;
    program.pass(&frame)?;
    ensure!(all(&mut stream).is_empty());
    stream.listen()?;
    program.pass(&frame)?;
    ensure!(all(&mut stream).len() == 1);
    // The time after which a reader that was killed expires.
    thread::sleep(Duration::from_millis(3100));
    program.pass(&frame)?;
    ensure!(all(&mut stream).is_empty());
    stream.listen()?;
    program.pass(&frame)?;
    ensure!(all(&mut stream).len() == 1);
    assert_eq!(stream.lost()?, Lost::default());
    Ok(())
}

/// SYNs above the rate, and events that do not fit into the ring buffer, are counted as lost.
#[test]
fn floods_are_bounded_and_counted() -> Result<()> {
    const SYNS: u64 = 20_000;
    let (client, server) = addresses()[0];
    let frame = Segment::syn(client, server)
        .options(&fast_open(b""))
        .frame();
    let flood = |rate| -> Result<(u64, Lost)> {
        let mut program = Program::with_keys(&[KEY])?;
        let filter = EventFilter {
            rate,
            ..EventFilter::default()
        };
        let mut stream = program.datapath().take_events(filter)?;
        stream.listen()?;
        for _ in 0..SYNS {
            program.pass(&frame)?;
        }
        let told = all(&mut stream).len();
        Ok((
            u64::try_from(told).context("too many events")?,
            stream.lost()?,
        ))
    };
    let (told, lost) = flood(10)?;
    assert_eq!(told + lost.total(), SYNS);
    assert_eq!(lost.ring_full, 0);
    assert!((1..100).contains(&told), "{told}");

    let (told, lost) = flood(u32::MAX)?;
    assert_eq!(told + lost.total(), SYNS);
    // An event of 56 bytes, and the ring buffer's header of 8.
    assert!((4095..=4096).contains(&told), "{told}");
    assert_eq!(lost.over_rate, 0);
    Ok(())
}
