//! Counters by source.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use tfo_common::abi::sources::{SourceCounter, SourceCounts};
use tfo_testbed::{
    packet::{Segment, cookie, fast_open},
    program::{KeyBytes, Program},
};
use tfo_userspace::model::{Mirror, Settings, SourceLimits};

const KEY: KeyBytes = *b"the one key here";
const SERVERS: [&str; 2] = ["198.51.100.2", "2001:db8:7::2"];

fn program(max: u32, v4: u8, v6: u8) -> Result<Program> {
    let settings = Settings {
        mirror: Mirror::Packet,
        sources: SourceLimits { max, v4, v6 },
        ..Settings::default()
    };
    Program::with_settings(settings, &[KEY])
}

fn syn(source: &str) -> Segment {
    let source: IpAddr = source.parse().expect("an address");
    let server = SERVERS[usize::from(source.is_ipv6())];
    let server: IpAddr = server.parse().expect("an address");
    Segment::syn((source, 2000).into(), SocketAddr::new(server, 443))
}

/// A SYN with the valid cookie of `source`.
fn valid(source: &str) -> Segment {
    let [v4, v6] = SERVERS;
    let server = if source.contains(':') { v6 } else { v4 };
    let parse = |text: &str| text.parse().expect("an address");
    syn(source).options(&fast_open(&cookie(&KEY, parse(source), parse(server))))
}

/// All entries: prefix, accepted cookies, rejected cookies, requests, SYNs.
fn kept(program: &mut Program) -> Result<Vec<(String, [u64; 4])>> {
    let row = |counts: SourceCounts| {
        [
            counts.get(SourceCounter::Uses),
            counts.get(SourceCounter::Failures),
            counts.get(SourceCounter::Requests),
            counts.syns(),
        ]
    };
    let all = program.datapath().sources()?.top(usize::MAX);
    let rows = all
        .into_iter()
        .map(|(prefix, it)| (prefix.to_string(), row(it)));
    Ok(rows.collect())
}

#[test]
fn each_source_counts_for_itself() -> Result<()> {
    let mut program = program(1000, 32, 64)?;
    let request = fast_open(b"");
    let bad = fast_open(b"no cooki");
    for (source, other) in [
        ("192.0.2.7", "192.0.2.8"),
        ("2001:db8:1:2::7", "2001:db8:1:3::7"),
    ] {
        // SYNs without a Fast Open option have no entry.
        program.pass(&syn(other).frame())?;
        program.pass(&syn(source).frame())?;
        program.pass(&syn(source).data(b"x").frame())?;
        program.pass(&syn(source).options(&request).frame())?;
        for _ in 0..2 {
            program.pass(&valid(source).data(b"x").frame())?;
        }
        for _ in 0..3 {
            program.pass(&syn(source).options(&bad).frame())?;
        }
    }
    let counts = [2, 3, 1, 7];
    assert_eq!(
        kept(&mut program)?,
        [
            ("192.0.2.7/32".to_owned(), counts),
            ("2001:db8:1:2::/64".to_owned(), counts)
        ]
    );
    Ok(())
}

#[test]
fn prefixes_are_as_long_as_asked_for() -> Result<()> {
    for (v4, v6, expected) in [
        (
            24,
            48,
            [("192.0.2.0/24", 2), ("2001:db8:1::/48", 2)].as_slice(),
        ),
        (0, 0, &[("0.0.0.0/0", 2), ("::/0", 2)]),
        (
            32,
            128,
            &[
                ("192.0.2.7/32", 1),
                ("192.0.2.8/32", 1),
                ("2001:db8:1:2::7/128", 1),
                ("2001:db8:1:3::8/128", 1),
            ],
        ),
    ] {
        let mut program = program(1000, v4, v6)?;
        for source in [
            "192.0.2.7",
            "192.0.2.8",
            "2001:db8:1:2::7",
            "2001:db8:1:3::8",
        ] {
            program.pass(&valid(source).frame())?;
        }
        let kept = kept(&mut program)?;
        let kept: Vec<_> = kept.iter().map(|(name, row)| (&**name, row[3])).collect();
        assert_eq!(kept, expected);
    }
    Ok(())
}

/// The number of entries is bounded; active sources keep theirs.
#[test]
fn the_bound_holds() -> Result<()> {
    const MAX: u32 = 2048;
    let mut program = program(MAX, 32, 64)?;
    for number in 0..4 * MAX {
        let [_, _, high, low] = number.to_be_bytes();
        program.pass(&valid(&format!("10.1.{high}.{low}")).frame())?;
        if number % 8 == 0 {
            program.pass(&valid("192.0.2.7").frame())?;
        }
    }
    let kept = kept(&mut program)?;
    assert!(kept.len() <= MAX as usize, "{}", kept.len());
    assert!(kept.len() > MAX as usize / 2, "{}", kept.len());
    let often = u64::from(MAX / 2);
    assert_eq!(kept[0], ("192.0.2.7/32".to_owned(), [often, 0, 0, often]));
    Ok(())
}

#[test]
fn none_are_kept_where_none_are_wanted() -> Result<()> {
    let mut program = program(0, 32, 64)?;
    program.pass(&valid("192.0.2.7").frame())?;
    assert_eq!(kept(&mut program)?, []);
    Ok(())
}

/// A client whose cookies are lost requests one at every connection. Three requests identify it.
#[test]
fn who_asks_and_never_uses() -> Result<()> {
    let mut program = program(1000, 32, 64)?;
    let request = fast_open(b"");
    for (source, requests, uses) in [
        ("192.0.2.1", 3, 0),
        ("192.0.2.2", 2, 0),
        ("192.0.2.3", 9, 1),
        ("2001:db8::1", 4, 0),
    ] {
        for _ in 0..requests {
            program.pass(&syn(source).options(&request).frame())?;
        }
        for _ in 0..uses {
            program.pass(&valid(source).frame())?;
        }
    }
    let sources = program.datapath().sources()?;
    assert_eq!(sources.ask_without_using(), 2);
    let asks = |name: &str| {
        let mut all = sources.0.iter();
        all.find(|(prefix, _)| prefix.to_string() == name)
            .map(|(_, counts)| counts.asks_without_using())
            .context("not kept")
    };
    assert!(asks("192.0.2.1/32")? && asks("2001:db8::/64")?);
    assert!(!asks("192.0.2.2/32")? && !asks("192.0.2.3/32")?);
    Ok(())
}
