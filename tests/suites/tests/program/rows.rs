//! The SYN table in the kernel's program.

use anyhow::Result;
use bytes::Bytes;
use tfo_common::counters::Counter;
use tfo_testbed::{
    packet::{linux_options, row_options},
    program::Program,
    syn_table::{Row, Says, rows},
};

use crate::flow::{BACKUP, FLOWS, PRIMARY, syn_counts};

/// Expected counters of a row, beside those of the SYN and its data.
fn counters(row: &Row) -> Vec<Counter> {
    let mut counters = match row.says {
        Says::Nothing if row.malformed => vec![Counter::ReasonMalformed],
        Says::Nothing => vec![],
        Says::Request => vec![Counter::CookieReqd],
        Says::Primary => vec![Counter::Passive],
        Says::Backup => vec![Counter::Passive, Counter::PassiveAltKey],
        Says::BadCookie => vec![Counter::PassiveFail, Counter::ReasonBadCookie],
        Says::BadLength => vec![Counter::PassiveFail, Counter::ReasonBadLength],
    };
    if row.malformed {
        counters.push(Counter::OptionsMalformed);
    }
    if row.experimental {
        counters.push(Counter::OptionsExperimental);
    }
    counters
}

/// Runs the program on the SYN of each row, with and without data, over IPv4 and IPv6. `shape` makes the header's
/// options from the row's, or skips the row.
fn check(shape: impl Fn(Bytes) -> Option<Bytes>) -> Result<()> {
    let program = Program::with_keys(&[PRIMARY, BACKUP])?;
    for row in rows() {
        for flow in FLOWS {
            let cookies = [PRIMARY, BACKUP].map(|key| flow.cookie(&key));
            let Some(options) = shape(row_options(row, &cookies[0], &cookies[1])) else {
                continue;
            };
            for data in [b"".as_slice(), b"\x22\x02 and what else a client says"] {
                let frame = flow.syn().options(&options).data(data).padded_frame();
                let counted = program.count(&frame)?;
                assert_eq!(
                    counted,
                    syn_counts(&counters(row), data),
                    "{}, {} bytes of data, to {}",
                    row.rule,
                    data.len(),
                    flow.server
                );
            }
        }
    }
    Ok(())
}

#[test]
fn options_alone() -> Result<()> {
    check(Some)
}

/// The row's options follow those of a Linux client's SYN, which leave 20 bytes.
#[test]
fn options_where_linux_puts_them() -> Result<()> {
    check(|options| (options.len() <= 20).then(|| linux_options(&options)))
}

#[test]
fn options_behind_no_operations() -> Result<()> {
    check(|options| {
        let behind = || [&[1; 4], &*options].concat().into();
        (options.len() <= 36).then(behind)
    })
}
