//! SYNs that the kernel drops before they reach a listener: with an unexpected MD5 or AO signature, or with a
//! truncated option list (`tcp_inbound_hash`).

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    testbed::Tally,
    kernel::{feature, is_before},
    raw::{Answer, RawSyn},
    veth::Family,
};

use super::RawTestbed;

/// Options behind a cookie request, and the reason for the drop; `None` if the SYN is accepted. Before Linux 6.7 the
/// kernel accepts truncated lists.
const ROWS: &[(&str, &[u8], Option<Counter>)] = &[
    ("nothing", b"", None),
    ("TCP-MD5", b"\x13\x12................", Some(Counter::ReasonSigned)),
    ("TCP-MD5 of a wrong size", b"\x13\x11................\x01", Some(Counter::ReasonMalformed)),
    ("TCP-MD5 behind the end of the list", b"\x00\x13\x12................", None),
    ("a size of 0, much behind it", b"\x4e\x00..................", Some(Counter::ReasonMalformed)),
    ("a size past the end, much behind it", b"\x4e\x20..................", Some(Counter::ReasonMalformed)),
    ("a size of 0, nothing behind it", b"\x4e\x00", None),
];

#[test]
fn dropped_before_the_listener() -> Result<()> {
    for family in Family::BOTH {
        check(family)?;
    }
    let how = if is_before(6, 7)? { "counted" } else { "dropped, counted" };
    feature("a SYN with a broken list of options", how);
    Ok(())
}

fn check(family: Family) -> Result<()> {
    let RawTestbed { base, listener: _listening, server, mut client } = RawTestbed::new(family)?;
    let mut tally = Tally::default();
    let minds_faults = !is_before(6, 7)?;
    for (name, options, reason) in ROWS {
        let reason = reason.filter(|reason| minds_faults || *reason != Counter::ReasonMalformed);
        let before = base.equal()?.counters;
        let mut syn = RawSyn::fast_open(34, &[], b"data");
        syn.options.extend(*options);
        let answer = client.send_in(&base.pair, server, &syn)?;
        let silent = answer == Answer::Silence;
        ensure!(silent == reason.is_some(), "{family}: {name}: {answer:?}");
        tally.requests += i64::from(reason.is_none());
        let after = base.expect(tally).with_context(|| format!("{family}: {name}"))?.counters;
        for counter in Counter::REASONS {
            let grown = after[counter.name()] - before[counter.name()];
            ensure!(grown == i64::from(reason == Some(counter)), "{family}: {name}: {}", counter.name());
        }
    }
    Ok(())
}
