//! The rules by which Linux reads TCP options for Fast Open, one row each: `tcp_parse_options` and
//! `tcp_parse_fastopen_option`, as observed on a live kernel.

use tfo_common::{
    fastopen::Cookie,
    wire::options::{
        fast_open::{self, FastOpen, SynOptions},
        signature::{SignatureFault, SignatureRules, Signatures},
    },
};

/// A rule, the options' bytes, and what they say.
type Row = (&'static str, &'static [u8], SynOptions);

const NONE: SynOptions = SynOptions::NONE;
const REQUEST: SynOptions = says(FastOpen::Request);
const COOKIE: SynOptions = says(FastOpen::Cookie(Cookie::from_bytes(*b"biscuits")));
const OTHER_COOKIE: SynOptions = says(FastOpen::Cookie(Cookie::from_bytes(*b"crumbles")));
const BAD_LENGTH: SynOptions = says(FastOpen::BadLength);

const fn says(fast_open: FastOpen) -> SynOptions {
    SynOptions {
        fast_open,
        experimental: false,
        ..NONE
    }
}

const fn experimental(options: SynOptions) -> SynOptions {
    SynOptions {
        experimental: true,
        ..options
    }
}

const fn malformed(options: SynOptions) -> SynOptions {
    SynOptions {
        malformed: true,
        ..options
    }
}

#[rustfmt::skip]
const LENGTHS: &[Row] = &[
    ("no options", b"", NONE),
    ("length 0 asks for a cookie", b"\x22\x02", REQUEST),
    ("length 1 is odd", b"\x22\x03b", malformed(NONE)),
    ("length 2 is no cookie's", b"\x22\x04bi", malformed(NONE)),
    ("length 3 is odd", b"\x22\x05bis", malformed(NONE)),
    ("length 4 is a cookie's", b"\x22\x06bisc", BAD_LENGTH),
    ("length 5 is odd", b"\x22\x07biscu", malformed(NONE)),
    ("length 6 is a cookie's", b"\x22\x08biscui", BAD_LENGTH),
    ("length 7 is odd", b"\x22\x09biscuit", malformed(NONE)),
    ("length 8 is what Linux issues", b"\x22\x0abiscuits", COOKIE),
    ("length 9 is odd", b"\x22\x0bbiscuits.", malformed(NONE)),
    ("length 10 is a cookie's", b"\x22\x0cbiscuits..", BAD_LENGTH),
    ("length 12 is a cookie's", b"\x22\x0ebiscuits....", BAD_LENGTH),
    ("length 14 is a cookie's", b"\x22\x10biscuits......", BAD_LENGTH),
    ("length 15 is odd", b"\x22\x11biscuits.......", malformed(NONE)),
    ("length 16 is a cookie's", b"\x22\x12biscuits........", BAD_LENGTH),
    ("length 17 is odd", b"\x22\x13biscuits.........", malformed(NONE)),
    ("length 18 is no cookie's", b"\x22\x14biscuits..........", malformed(NONE)),
    ("length 38 is no cookie's", b"\x22\x28biscuits..............................", malformed(NONE)),
];

#[rustfmt::skip]
const EXPERIMENTAL: &[Row] = &[
    ("length 0 asks for a cookie", b"\xfe\x04\xf9\x89", experimental(REQUEST)),
    ("length 1 is odd", b"\xfe\x05\xf9\x89b", malformed(NONE)),
    ("length 2 is no cookie's", b"\xfe\x06\xf9\x89bi", malformed(NONE)),
    ("length 4 is a cookie's", b"\xfe\x08\xf9\x89bisc", experimental(BAD_LENGTH)),
    ("length 8 is what Linux issues", b"\xfe\x0c\xf9\x89biscuits", experimental(COOKIE)),
    ("length 16 is a cookie's", b"\xfe\x14\xf9\x89biscuits........", experimental(BAD_LENGTH)),
    ("length 18 is no cookie's", b"\xfe\x16\xf9\x89biscuits..........", malformed(NONE)),
    ("another magic is another's option", b"\xfe\x0c\xf9\x88biscuits", NONE),
    ("size 2 has no magic", b"\xfe\x02\xf9\x89", malformed(NONE)),
    ("size 3 has half a magic", b"\xfe\x03\xf9\x01", NONE),
    ("kind 253 is another's option", b"\xfd\x0c\xf9\x89biscuits", NONE),
];

#[rustfmt::skip]
const REPEATS: &[Row] = &[
    ("the last cookie wins", b"\x22\x0abiscuits\x22\x0acrumbles", OTHER_COOKIE),
    ("a request wins over a cookie before it", b"\x22\x0abiscuits\x22\x02", REQUEST),
    ("a cookie wins over a request before it", b"\x22\x02\x22\x0abiscuits", COOKIE),
    ("a bad length wins over a cookie before it", b"\x22\x0abiscuits\x22\x06bisc", BAD_LENGTH),
    ("even length 2 erases", b"\x22\x0abiscuits\x22\x04bi", malformed(NONE)),
    ("even length 18 erases", b"\x22\x0abiscuits\x22\x14..................", malformed(NONE)),
    ("an odd length does not erase", b"\x22\x0abiscuits\x22\x05bis", malformed(COOKIE)),
    ("what was erased can be said again", b"\x22\x04bi\x22\x0abiscuits", malformed(COOKIE)),
    ("kind 254 wins over kind 34 before it", b"\x22\x02\xfe\x0c\xf9\x89biscuits", experimental(COOKIE)),
    ("kind 34 wins over kind 254 before it", b"\xfe\x0c\xf9\x89biscuits\x22\x02", REQUEST),
    ("kind 254 erases kind 34", b"\x22\x0abiscuits\xfe\x06\xf9\x89bi", malformed(NONE)),
    ("kind 34 erases kind 254", b"\xfe\x0c\xf9\x89biscuits\x22\x04bi", malformed(NONE)),
    ("an odd kind 34 leaves kind 254", b"\xfe\x04\xf9\x89\x22\x03b", malformed(experimental(REQUEST))),
    ("another magic leaves kind 34", b"\x22\x0abiscuits\xfe\x06\xf9\x88bi", COOKIE),
];

#[rustfmt::skip]
const ENDS: &[Row] = &[
    ("an end of list hides what follows", b"\x00\x22\x0abiscuits", NONE),
    ("what stands before an end of list is kept", b"\x22\x02\x00\x00\x22\x0abiscuits", REQUEST),
    ("size 0 ends the list", b"\x02\x00\x22\x0abiscuits", malformed(NONE)),
    ("size 1 ends the list", b"\x02\x01\x22\x0abiscuits", malformed(NONE)),
    ("what stands before a size 0 is kept", b"\x22\x0abiscuits\x22\x00", malformed(COOKIE)),
    ("what stands before a size 1 is kept", b"\x22\x0abiscuits\x22\x01", malformed(COOKIE)),
    ("a size past the end ends the list", b"\x22\x02\x22\x0abiscuit", malformed(REQUEST)),
    ("another option's size past the end does too", b"\x22\x02\x08\x0a.......", malformed(REQUEST)),
    ("a kind without a size ends the list", b"\x22\x0abiscuits\x22", malformed(COOKIE)),
    ("another kind without a size does too", b"\x22\x0abiscuits\x03", malformed(COOKIE)),
    ("an end of list may be the last byte", b"\x22\x0abiscuits\x00", COOKIE),
    ("a no-operation may be the last byte", b"\x22\x0abiscuits\x01", COOKIE),
];

#[rustfmt::skip]
const NEIGHBOURS: &[Row] = &[
    ("an unknown option is skipped", b"\x4e\x04\x22\x02\x22\x0abiscuits", COOKIE),
    ("an option without a value is skipped", b"\x4e\x02\x22\x0abiscuits", COOKIE),
    ("no-operations are skipped", b"\x01\x01\x22\x0abiscuits\x01\x01", COOKIE),
    ("Linux' usual request",
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a....\0\0\0\0\x01\x03\x03\x07\x22\x02\x01\x01", REQUEST),
    ("Linux' usual cookie",
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a....\0\0\0\0\x01\x03\x03\x07\x22\x0abiscuits\x01\x01", COOKIE),
    ("40 no-operations", &[1; 40], NONE),
    ("a kind without a size behind 39 no-operations",
        b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x22", malformed(NONE)),
    ("a request behind 38 no-operations",
        b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x22\x02", REQUEST),
    ("20 requests", b"\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\
          \x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02", REQUEST),
    ("the last cookie that fits",
        b"\x4e\x1e............................\x22\x0abiscuits", COOKIE),
];

/// Reads options of a SYN with data that stand between `around`, as they do between a header and data.
fn read(bytes: &[u8], around: &[u8]) -> SynOptions {
    let frame = [around, bytes, around].concat();
    fast_open::parse(&frame[..], around.len(), bytes.len(), true).0
}

fn check(rows: &[Row]) {
    for (rule, bytes, expected) in rows {
        for around in [b"".as_slice(), b"\x22\x02", b"\x02", b"\0", b"\x0abiscuits"] {
            let said = SynOptions {
                signatures: Signatures::NONE,
                tsval: None,
                ..read(bytes, around)
            };
            assert_eq!(said, *expected, "{rule}: {}", bytes.escape_ascii());
        }
    }
}

/// How much is left at the first fault, TCP-MD5 signature and TCP-AO signature.
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

/// What the kernel drops, by what it knows: Linux 6.7 and later without TCP-AO and with it, and earlier.
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

/// The last one counts, if it has its size.
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
    check(LENGTHS);
}

#[test]
fn the_experimental_form() {
    check(EXPERIMENTAL);
}

#[test]
fn repeated_options() {
    check(REPEATS);
}

#[test]
fn ends_of_the_list() {
    check(ENDS);
}

#[test]
fn other_options_around() {
    check(NEIGHBOURS);
}
