//! SYNs to a connection in `TIME_WAIT`: sequence number and timestamp decide whether they reopen it
//! (`tcp_timewait_state_process`).

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    testbed::Tally,
    keys,
    raw::{Answer, RawSyn},
    veth::Family,
};

use super::RawTestbed;

/// The `TSval` of the first connection.
const CLOCK: u32 = 1_000_000;

/// An earlier connection, the SYN that follows, and whether it opens a new connection.
struct Row {
    name: &'static str,
    /// The first connection's `TSval`; `None` without timestamps.
    before: Option<u32>,
    /// The client closed its end.
    closed: bool,
    /// `net.ipv4.tcp_timestamps` when the SYN arrives.
    timestamps: bool,
    /// The SYN's sequence number, relative to the expected one.
    ahead: i32,
    clock: Option<u32>,
    reopens: bool,
}

const fn row(name: &'static str, before: Option<u32>, ahead: i32, clock: Option<u32>, reopens: bool) -> Row {
    Row { name, before, closed: true, timestamps: true, ahead, clock, reopens }
}

const ROWS: &[Row] = &[
    row("ahead", None, 1, None, true),
    row("the number that is due", None, 0, None, false),
    row("behind", None, -1, None, false),
    row("ahead by half of all numbers", None, i32::MAX, None, true),
    row("a clock that nobody knew, behind", None, -1, Some(CLOCK), false),
    row("no clock any more, ahead", Some(CLOCK), 1, None, true),
    row("no clock any more, behind", Some(CLOCK), -1, None, false),
    row("a later clock, ahead", Some(CLOCK), 1, Some(CLOCK + 1), true),
    row("a later clock, behind", Some(CLOCK), -1, Some(CLOCK + 1), true),
    row("the same clock, ahead", Some(CLOCK), 1, Some(CLOCK), true),
    row("the same clock, behind", Some(CLOCK), -1, Some(CLOCK), false),
    row("an earlier clock, ahead", Some(CLOCK), 1, Some(CLOCK - 1), false),
    row("an earlier clock, behind", Some(CLOCK), -1, Some(CLOCK - 1), false),
    row("a clock that wrapped, behind", Some(u32::MAX), -1, Some(0), true),
    row("the clock stood at 0, ahead", Some(0), 1, Some(u32::MAX), true),
    Row { timestamps: false, ..row("clocks switched off, earlier, ahead", Some(CLOCK), 1, Some(CLOCK - 1), true) },
    Row { timestamps: false, ..row("clocks switched off, later, behind", Some(CLOCK), -1, Some(CLOCK + 1), false) },
    Row { closed: false, ..row("half closed, ahead", None, 1, None, false) },
    Row { closed: false, ..row("half closed, a later clock", Some(CLOCK), 1, Some(CLOCK + 1), false) },
];

#[test]
fn out_of_time_wait() -> Result<()> {
    for family in Family::BOTH {
        check(family)?;
    }
    Ok(())
}

fn check(family: Family) -> Result<()> {
    let mut testbed = RawTestbed::new(family)?;
    let mut tally = Tally::default();
    for row in ROWS {
        tally.passive += i64::from(row.reopens);
        play(row, &mut testbed)
            .and_then(|()| testbed.base.expect(tally).map(drop))
            .with_context(|| format!("{family}: {}", row.name))?;
    }
    Ok(())
}

fn play(row: &Row, testbed: &mut RawTestbed) -> Result<()> {
    let RawTestbed { base, listener, server, client } = testbed;
    let timestamps = |on: bool| {
        let value = if on { "1" } else { "0" };
        base.pair.server.set_sysctl("net.ipv4.tcp_timestamps", value)
    };
    timestamps(true)?;
    let opening = with_clock(RawSyn::plain(&[]), row.before);
    client.time_wait(*server, &opening, row.closed, || listener.accept().map(drop))?;
    timestamps(row.timestamps)?;
    // The expected sequence number follows the SYN and the FIN, if there was one.
    let due = 1 + u32::from(row.closed);
    client.advance(due.wrapping_add_signed(row.ahead));
    let key = keys::parse(keys::COUNTING)?[0];
    let cookie = keys::cookie(&key, client.address(), server.ip());
    let syn = with_clock(RawSyn::fast_open(34, &cookie, b"data"), row.clock);
    let answer = client.send_again(*server, &syn)?;
    let taken = matches!(answer, Answer::SynAck { acked: 4, .. });
    ensure!(taken == row.reopens, "{answer:?}");
    if taken {
        listener.accept()?;
    }
    Ok(())
}

/// Adds a timestamp option with this `TSval`.
fn with_clock(mut syn: RawSyn, clock: Option<u32>) -> RawSyn {
    if let Some(clock) = clock {
        syn.options.extend([8, 10]);
        syn.options.extend(clock.to_be_bytes());
        syn.options.extend([0; 4]);
    }
    syn
}
