//! Linux's rules for TCP options of Fast Open SYNs, one row each: `tcp_parse_options` and
//! `tcp_parse_fastopen_option`, checked on a live kernel.

use tfo_common::{
    fastopen::Cookie,
    wire::options::{
        fast_open::{self, FastOpen, SynOptions},
        signature::{SignatureFault, SignatureRules, Signatures},
    },
};

#[expect(unreachable_pub, reason = "tfo-testbed exports it")]
#[path = "../../tests/testbed/src/syn_table.rs"]
mod syn_table;

use syn_table::{Row, Says};

/// The expected result for a row.
const fn expected(row: &Row) -> SynOptions {
    SynOptions {
        fast_open: match row.says {
            Says::Nothing => FastOpen::Absent,
            Says::Request => FastOpen::Request,
            Says::Primary => FastOpen::Cookie(Cookie::from_bytes(syn_table::PRIMARY)),
            Says::Backup => FastOpen::Cookie(Cookie::from_bytes(syn_table::BACKUP)),
            Says::BadCookie => FastOpen::Cookie(Cookie::from_bytes(syn_table::BAD)),
            Says::BadLength => FastOpen::BadLength,
        },
        experimental: row.experimental,
        malformed: row.malformed,
        ..SynOptions::NONE
    }
}

/// Parses options of a SYN with data. `around` is the header before and the data behind them.
fn read(bytes: &[u8], around: &[u8]) -> SynOptions {
    let frame = [around, bytes, around].concat();
    fast_open::parse(&frame[..], around.len(), bytes.len(), true).0
}

fn check(rows: &[Row]) {
    for row in rows {
        for around in [b"".as_slice(), b"\x22\x02", b"\x02", b"\0", b"\x0abiscuits"] {
            let said = SynOptions {
                signatures: Signatures::NONE,
                tsval: None,
                ..read(row.options, around)
            };
            let options = row.options.escape_ascii();
            assert_eq!(said, expected(row), "{}: {options}", row.rule);
        }
    }
}

/// Bytes left at the first malformed option, the TCP-MD5 signature and the TCP-AO signature.
type Left = (u8, u8, u8);

#[rustfmt::skip]
const SIGNATURES: &[(&str, &[u8], Left)] = &[
    ("no options", b"", (0, 0, 0)),
    ("a request", b"\x22\x02", (0, 0, 0)),
    ("an impossible cookie is no fault", b"\x22\x05bis", (0, 0, 0)),
    ("a size of 0", b"\x02\x00..", (4, 0, 0)),
    ("a size of 1 behind others", b"\x01\x04\x02\x02\x01..", (4, 0, 0)),
    ("a size past the end", b"\x01\x02\x05..", (4, 0, 0)),
    ("behind the end of the list", b"\x00\x02\x00", (0, 0, 0)),
    ("TCP-MD5", b"\x13\x12................", (0, 18, 0)),
    ("TCP-MD5 of another size", b"\x01\x13\x11...............", (17, 0, 0)),
    ("TCP-MD5 twice", b"\x13\x12................\x13\x12................", (18, 36, 0)),
    ("TCP-AO", b"\x01\x1d\x05...", (0, 0, 5)),
    ("TCP-AO that is too short", b"\x1d\x04..", (4, 0, 0)),
    ("TCP-AO, then TCP-MD5", b"\x1d\x05...\x13\x12................", (18, 18, 23)),
    ("the first fault counts", b"\x1d\x04..\x02\x00", (6, 0, 0)),
];

#[test]
fn signatures() {
    for (rule, bytes, (fault, md5, ao)) in SIGNATURES {
        let expected = Signatures {
            fault: *fault,
            md5: *md5,
            ao: *ao,
        };
        assert_eq!(read(bytes, b"\x13").signatures, expected, "{rule}");
    }
}

/// Drops by kernel: Linux 6.7 and later without TCP-AO and with it, and earlier releases.
#[test]
fn refusals() {
    let rules = |fault_from, refuses_ao| SignatureRules {
        fault_from,
        refuses_md5: true,
        refuses_ao,
    };
    let [new, with_ao, old] = [
        rules(Some(18), false),
        rules(Some(5), true),
        rules(None, false),
    ];
    let of = |fault, md5, ao| {
        let signatures = Signatures { fault, md5, ao };
        [new, with_ao, old].map(|rules| signatures.check(&rules))
    };
    let (broken, unexpected) = (
        Some(SignatureFault::BrokenList),
        Some(SignatureFault::Unexpected),
    );
    assert_eq!(of(0, 0, 0), [None; 3]);
    assert_eq!(of(4, 0, 0), [None; 3]);
    assert_eq!(of(5, 0, 0), [None, broken, None]);
    assert_eq!(of(17, 0, 0), [None, broken, None]);
    assert_eq!(of(18, 0, 0), [broken, broken, None]);
    assert_eq!(of(0, 18, 0), [unexpected; 3]);
    assert_eq!(of(0, 0, 5), [None, unexpected, None]);
    assert_eq!(of(18, 36, 0), [broken, broken, unexpected]);
}

/// The last timestamp option of the right length is used.
#[test]
fn timestamps() {
    let says = |bytes: &[u8]| read(bytes, b"\x08\x0a").tsval;
    assert_eq!(says(b"\x02\x04.."), None);
    assert_eq!(says(b"\x08\x0a\x01\x02\x03\x04...."), Some(0x0102_0304));
    assert_eq!(says(b"\x08\x09\x01\x02\x03\x04..."), None);
    let twice = b"\x08\x0a\x01\x02\x03\x04....\x08\x0a\x05\x06\x07\x08....";
    assert_eq!(says(twice), Some(0x0506_0708));
}

#[test]
fn lengths() {
    check(syn_table::LENGTHS);
}

#[test]
fn the_experimental_form() {
    check(syn_table::EXPERIMENTAL);
}

#[test]
fn repeated_options() {
    check(syn_table::REPEATS);
}

#[test]
fn ends_of_the_list() {
    check(syn_table::ENDS);
}

#[test]
fn other_options_around() {
    check(syn_table::NEIGHBOURS);
}

/// Padding the header with zeros does not change a row's result.
#[test]
fn rows_in_a_header() {
    for row in syn_table::rows() {
        assert!(row.options.len() <= 40, "{}", row.rule);
        let mut header = row.options.to_vec();
        header.resize(header.len().next_multiple_of(4), 0);
        let said = read(&header, b"");
        let expected = expected(row);
        assert_eq!(
            (said.fast_open, said.experimental, said.malformed),
            (
                expected.fast_open,
                expected.experimental,
                expected.malformed
            ),
            "{}",
            row.rule
        );
    }
}
