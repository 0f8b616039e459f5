//! Conditions under which Fast Open is not applied, each with crafted SYNs on a live listener. [`table`] has the
//! kernel's counters and answers, and the one reason that `tfo` must count.

mod testbed;
#[rustfmt::skip]
mod signatures;
#[rustfmt::skip]
mod table;
#[rustfmt::skip]
mod time_wait;

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    kernel::{feature, is_before},
    keys,
    raw::{Answer, RawClient, RawSyn},
    socket::{Listener, Settings},
    testbed::{Tally, Testbed},
    veth::{Family, Pair, server_port},
};

use self::{table::TABLE, testbed::ConditionTestbed};

/// A testbed with `tfo`, a Fast Open listener and a raw client.
struct RawTestbed {
    base: Testbed,
    listener: Listener,
    server: SocketAddr,
    client: RawClient,
}

impl RawTestbed {
    fn new(family: Family) -> Result<Self> {
        Self::with(family, &Settings::FAST_OPEN)
    }

    fn with(family: Family, settings: &Settings) -> Result<Self> {
        let pair = Pair::new()?;
        pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        let base = Testbed::attach(pair, &[])?;
        let address = SocketAddr::new(family.unspecified(), 0);
        let listener = Listener::with(&base.pair.server, address, settings)?;
        Ok(Self {
            server: server_port(family, listener.port()),
            client: RawClient::new(&base.pair, family, 0)?,
            listener,
            base,
        })
    }
}

/// Runs the whole table for a client of one family and listeners of another.
fn check(client: Family, listener: Family) -> Result<()> {
    let mut testbed = ConditionTestbed::new(client, listener)?;
    for condition in TABLE {
        testbed
            .check(condition)
            .with_context(|| format!("{client}: {}", condition.name))?;
    }
    Ok(())
}

#[test]
fn conditions_v4() -> Result<()> {
    check(Family::V4, Family::V4)
}

#[test]
fn conditions_v6() -> Result<()> {
    check(Family::V6, Family::V6)
}

#[test]
fn conditions_v4_to_a_dual_stack_listener() -> Result<()> {
    check(Family::V4, Family::V6)
}

/// Conditions whose result depends on the kernel's release.
#[test]
fn where_kernels_differ() -> Result<()> {
    let mut testbed = ConditionTestbed::new(Family::V4, Family::V4)?;
    for condition in TABLE.iter().filter(|condition| condition.older.is_some()) {
        testbed.check(condition).context(condition.name)?;
    }
    let how = if is_before(6, 10)? {
        "asked for SYN cookies"
    } else {
        "exempt"
    };
    feature("a SYN out of TIME_WAIT", how);
    Ok(())
}

/// If a client resets a connection that was accepted, its slot stays taken for a minute. The next SYN gets it after
/// that.
#[test]
#[ignore = "it waits for a minute"]
fn a_reset_connection_holds_its_slot_for_a_minute() -> Result<()> {
    const MINUTE: Duration = Duration::from_secs(61);
    let settings = Settings {
        queue: Some(1),
        ..Settings::FAST_OPEN
    };
    let RawTestbed {
        base,
        listener,
        server,
        mut client,
    } = RawTestbed::with(Family::V4, &settings)?;
    let key = keys::parse(keys::COUNTING)?[0];
    let cookie = keys::cookie(&key, client.address(), server.ip());
    let syn = RawSyn::fast_open(34, &cookie, b"data");
    let mut tally = Tally::default();
    let mut accepted = Vec::new();
    for (pause, taken) in [
        (Duration::ZERO, true),
        (Duration::ZERO, false),
        (MINUTE, true),
        (Duration::ZERO, false),
    ] {
        thread::sleep(pause);
        let answer = client.send(server, &syn)?;
        let acked = if taken { 4 } else { 0 };
        let expected = Answer::SynAck {
            acked,
            cookie: None,
        };
        ensure!(answer == expected, "{answer:?} after {pause:?}");
        // A connection that was not accepted would free its slot at once.
        accepted.extend(taken.then(|| listener.accept()).transpose()?);
        client.reset(server, acked)?;
        tally.passive += i64::from(taken);
        tally.overflows += i64::from(!taken);
        base.expect(tally)
            .with_context(|| format!("after {pause:?}"))?;
    }
    Ok(())
}
