//! One row for each thing that a SYN may say about Fast Open: what it counts.

use anyhow::Result;
use bytes::Bytes;
use tfo_common::counters::Counter;
use tfo_tests::{
    packet::{experimental, fast_open, linux_options},
    program::Program,
};

use crate::flow::{BACKUP, FLOWS, Flow, PRIMARY, syn_counts};

/// A SYN in words, its options, and what it counts beside itself and its data.
type Row = (&'static str, fn(&Cookies) -> Bytes, &'static [Counter]);

struct Cookies {
    primary: [u8; 8],
    backup: [u8; 8],
}

const BAD: [u8; 16] = *b"no cookie of any";

const REQUEST: Counter = Counter::CookieReqd;
const PASSIVE: Counter = Counter::Passive;
const ALT_KEY: Counter = Counter::PassiveAltKey;
const FAIL: Counter = Counter::PassiveFail;
const BAD_COOKIE: Counter = Counter::ReasonBadCookie;
const BAD_LENGTH: Counter = Counter::ReasonBadLength;
const MALFORMED: Counter = Counter::OptionsMalformed;
/// Malformed, so that nothing else of Fast Open is left.
const PASSED_OVER: Counter = Counter::ReasonMalformed;
const EXPERIMENTAL: Counter = Counter::OptionsExperimental;

/// The kernel counts the same, whether or not the SYN has data.
#[rustfmt::skip]
const OPTIONS: &[Row] = &[
    ("no option", |_| Bytes::new(), &[]),
    ("request", |_| fast_open(b""), &[REQUEST]),
    ("primary cookie", |c| fast_open(&c.primary), &[PASSIVE]),
    ("backup cookie", |c| fast_open(&c.backup), &[PASSIVE, ALT_KEY]),
    ("bad cookie", |_| fast_open(&BAD[..8]), &[FAIL, BAD_COOKIE]),
    ("length 1", |_| fast_open(&BAD[..1]), &[MALFORMED, PASSED_OVER]),
    ("length 2", |_| fast_open(&BAD[..2]), &[MALFORMED, PASSED_OVER]),
    ("length 3", |_| fast_open(&BAD[..3]), &[MALFORMED, PASSED_OVER]),
    ("length 4", |_| fast_open(&BAD[..4]), &[FAIL, BAD_LENGTH]),
    ("length 6", |_| fast_open(&BAD[..6]), &[FAIL, BAD_LENGTH]),
    ("length 7, of a primary cookie", |c| fast_open(&c.primary[..7]), &[MALFORMED, PASSED_OVER]),
    ("length 9, with a primary cookie", |c| fast_open(&[&c.primary[..], b"+"].concat()), &[MALFORMED, PASSED_OVER]),
    ("length 10, with a primary cookie", |c| fast_open(&[&c.primary[..], b"++"].concat()), &[FAIL, BAD_LENGTH]),
    ("length 12", |_| fast_open(&BAD[..12]), &[FAIL, BAD_LENGTH]),
    ("length 14", |_| fast_open(&BAD[..14]), &[FAIL, BAD_LENGTH]),
    ("length 15", |_| fast_open(&BAD[..15]), &[MALFORMED, PASSED_OVER]),
    ("length 16", |_| fast_open(&BAD), &[FAIL, BAD_LENGTH]),
    ("length 17", |_| fast_open(&[b'+'; 17]), &[MALFORMED, PASSED_OVER]),
    ("length 18", |_| fast_open(&[b'+'; 18]), &[MALFORMED, PASSED_OVER]),
    ("kind 254, request", |_| experimental(b""), &[REQUEST, EXPERIMENTAL]),
    ("kind 254, primary cookie", |c| experimental(&c.primary), &[PASSIVE, EXPERIMENTAL]),
    ("kind 254, backup cookie", |c| experimental(&c.backup), &[PASSIVE, ALT_KEY, EXPERIMENTAL]),
    ("kind 254, bad cookie", |_| experimental(&BAD[..8]), &[FAIL, BAD_COOKIE, EXPERIMENTAL]),
    ("kind 254, length 2", |_| experimental(&BAD[..2]), &[MALFORMED, PASSED_OVER]),
    ("kind 254, length 4", |_| experimental(&BAD[..4]), &[FAIL, BAD_LENGTH, EXPERIMENTAL]),
    ("kind 254, length 16", |_| experimental(&BAD), &[FAIL, BAD_LENGTH, EXPERIMENTAL]),
    ("kind 254, odd length", |_| experimental(&BAD[..3]), &[MALFORMED, PASSED_OVER]),
    ("kind 254, another magic", |c| join(&[b"\xfe\x0c\xf9\x88", &c.primary]), &[]),
    ("kind 254, size 3", |_| join(&[b"\xfe\x03\xf9\x01"]), &[]),
    ("kind 253", |c| join(&[b"\xfd\x0c\xf9\x89", &c.primary]), &[]),
    ("an unknown kind", |c| join(&[b"\x4e\x0a", &c.primary]), &[]),
];

/// Lists of options; each is as long as its header.
#[rustfmt::skip]
const LISTS: &[Row] = &[
    ("bad cookie, primary cookie", |c| join(&[&fast_open(&BAD[..8]), &fast_open(&c.primary)]), &[PASSIVE]),
    ("primary cookie, bad cookie", |c| join(&[&fast_open(&c.primary), &fast_open(&BAD[..8])]), &[FAIL, BAD_COOKIE]),
    ("primary cookie, request", |c| join(&[&fast_open(&c.primary), &fast_open(b"")]), &[REQUEST]),
    ("request, primary cookie", |c| join(&[&fast_open(b""), &fast_open(&c.primary)]), &[PASSIVE]),
    ("primary cookie, length 2", |c| join(&[&fast_open(&c.primary), &fast_open(b"++"), b"\x01\x01"]), &[MALFORMED, PASSED_OVER]),
    ("primary cookie, length 18", |c| join(&[&fast_open(&c.primary), &fast_open(&[b'+'; 18]), b"\x01\x01"]), &[MALFORMED, PASSED_OVER]),
    ("primary cookie, odd length", |c| join(&[&fast_open(&c.primary), &fast_open(b"+++"), b"\x01"]), &[PASSIVE, MALFORMED]),
    ("length 2, primary cookie", |c| join(&[&fast_open(b"++"), &fast_open(&c.primary), b"\x01\x01"]), &[PASSIVE, MALFORMED]),
    ("kind 34 bad, kind 254 primary", |c| join(&[&fast_open(&BAD[..8]), &experimental(&c.primary), b"\x01\x01"]), &[PASSIVE, EXPERIMENTAL]),
    ("kind 254 bad, kind 34 primary", |c| join(&[&experimental(&BAD[..8]), &fast_open(&c.primary), b"\x01\x01"]), &[PASSIVE]),
    ("kind 254 cookie, kind 34 length 2", |c| join(&[&experimental(&c.primary), &fast_open(b"++")]), &[MALFORMED, PASSED_OVER]),
    ("end of list, primary cookie", |c| join(&[b"\0", &fast_open(&c.primary), b"\0"]), &[]),
    ("primary cookie, end of list, bad cookie", |c| join(&[&fast_open(&c.primary), b"\0\0", &fast_open(&BAD[..8]), b"\0\0"]), &[PASSIVE]),
    ("size 0, primary cookie", |c| join(&[b"\x02\x00", &fast_open(&c.primary)]), &[MALFORMED, PASSED_OVER]),
    ("size 1, primary cookie", |c| join(&[b"\x02\x01", &fast_open(&c.primary)]), &[MALFORMED, PASSED_OVER]),
    ("primary cookie, size 0", |c| join(&[&fast_open(&c.primary), b"\x22\x00"]), &[PASSIVE, MALFORMED]),
    ("primary cookie, size 1", |c| join(&[&fast_open(&c.primary), b"\x22\x01"]), &[PASSIVE, MALFORMED]),
    ("primary cookie, size past the end", |c| join(&[&fast_open(&c.primary), b"\x22\x03"]), &[PASSIVE, MALFORMED]),
    ("a cookie that goes past the end", |c| join(&[b"\x01\x01\x01", &fast_open(&c.primary)[..9]]), &[MALFORMED, PASSED_OVER]),
    ("primary cookie, kind without size", |c| join(&[&fast_open(&c.primary), b"\x01\x22"]), &[PASSIVE, MALFORMED]),
    ("40 no-operations", |_| join(&[&[1; 40]]), &[]),
    ("39 no-operations, kind without size", |_| join(&[&[1; 39], b"\x22"]), &[MALFORMED, PASSED_OVER]),
    ("38 no-operations, request", |_| join(&[&[1; 38], b"\x22\x02"]), &[REQUEST]),
    ("30 no-operations, primary cookie", |c| join(&[&[1; 30], &fast_open(&c.primary)]), &[PASSIVE]),
    ("primary cookie, 30 no-operations", |c| join(&[&fast_open(&c.primary), &[1; 30]]), &[PASSIVE]),
    ("20 requests", |_| join(&[&fast_open(b""); 20].map(|b| &b[..])), &[REQUEST]),
];

fn join(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

/// Runs the program on the SYN of each row, with and without data, over IPv4 and IPv6.
fn check(rows: &[Row], shape: impl Fn(&[u8]) -> Bytes) -> Result<()> {
    let program = Program::with_keys(&[PRIMARY, BACKUP])?;
    for (name, options, counters) in rows {
        for flow in FLOWS {
            for data in [b"".as_slice(), b"\x22\x02 and what else a client says"] {
                let options = shape(&options(&cookies(flow)));
                let frame = flow.syn().options(&options).data(data).padded_frame();
                let counted = program.count(&frame)?;
                assert_eq!(
                    counted,
                    syn_counts(counters, data),
                    "{name}, {} bytes of data, to {}",
                    data.len(),
                    flow.server
                );
            }
        }
    }
    Ok(())
}

fn cookies(flow: Flow) -> Cookies {
    Cookies {
        primary: flow.cookie(&PRIMARY),
        backup: flow.cookie(&BACKUP),
    }
}

#[test]
fn options_alone() -> Result<()> {
    check(OPTIONS, Bytes::copy_from_slice)
}

#[test]
fn options_where_linux_puts_them() -> Result<()> {
    check(OPTIONS, linux_options)
}

#[test]
fn lists_of_options() -> Result<()> {
    check(LISTS, |options| {
        assert_eq!(options.len() % 4, 0, "no padding in these rows");
        Bytes::copy_from_slice(options)
    })
}
