//! Counters by port, and ports beyond the available slots.

use std::collections::BTreeSet;

use anyhow::Result;
use tfo_common::{
    abi::COUNTER_SLOTS,
    counters::Counter::{CookieReqd, Syns},
};
use tfo_testbed::{
    packet::{Segment, fast_open},
    program::{Counted, Program},
};

use crate::flow::V4;

/// Slots for ports: all but the one of no port.
const SLOTS: u16 = COUNTER_SLOTS as u16 - 1;
/// Slots that SYNs without Fast Open may use.
const PLAIN_SLOTS: u16 = COUNTER_SLOTS as u16 / 2;

fn syn(port: u16, options: &[u8]) -> bytes::Bytes {
    let (client, server) = V4.ends(port);
    Segment::syn(client, server).options(options).frame()
}

#[test]
fn each_port_counts_for_itself() -> Result<()> {
    let program = Program::with_keys(&[])?;
    for _ in 0..3 {
        for port in [1, 80, 443, 8443, 65_535] {
            let plain = program.count(&syn(port, b""))?;
            assert_eq!(plain, Counted::at_port(port, &[(Syns, 1)]));
            let request = program.count(&syn(port, &fast_open(b"")))?;
            assert_eq!(
                request,
                Counted::at_port(port, &[(Syns, 1), (CookieReqd, 1)])
            );
        }
    }
    assert_eq!(program.counters()?.ports.len(), 5);
    Ok(())
}

/// A scan of all ports leaves half of the slots to ports that use Fast Open. Beyond them, SYNs are counted without a
/// port: none is lost, and ports keep their slots.
#[test]
fn more_ports_than_slots() -> Result<()> {
    let program = Program::with_keys(&[])?;
    let request = fast_open(b"");
    let scanned = 2000..4000;
    for port in scanned.clone() {
        program.pass(&syn(port, b""))?;
    }
    let counters = program.counters()?;
    let with_slot: BTreeSet<u16> = counters.ports.keys().copied().collect();
    assert_eq!(with_slot, (2000..2000 + PLAIN_SLOTS).collect());
    assert_eq!(counters.other.get(Syns), 2000 - u64::from(PLAIN_SLOTS));

    for port in 10_000..12_000 {
        program.pass(&syn(port, &request))?;
    }
    let counters = program.counters()?;
    let more = 10_000..10_000 + (SLOTS - PLAIN_SLOTS);
    let with_slot: BTreeSet<u16> = counters.ports.keys().copied().collect();
    assert_eq!(with_slot, (2000..2000 + PLAIN_SLOTS).chain(more).collect());
    assert_eq!(counters.total.get(Syns), 4000);
    assert_eq!(counters.total.get(CookieReqd), 2000);

    let both = [(Syns, 1), (CookieReqd, 1)];
    let first = program.count(&syn(2000, &request))?;
    assert_eq!(first, Counted::at_port(2000, &both));
    let last = program.count(&syn(11_999, &request))?;
    assert_eq!(last, Counted::at_no_port(&both));

    let counters = program.counters()?;
    let mut sum = counters.other;
    for port in counters.ports.into_values() {
        sum += port;
    }
    assert_eq!(sum, counters.total);
    Ok(())
}
