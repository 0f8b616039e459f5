//! A table of TCP options of SYNs and the Fast Open option that Linux finds in them (`tcp_parse_options` and
//! `tcp_parse_fastopen_option` in `net/ipv4/tcp_input.c`).
//!
//! The parser (tfo-common/tests/options.rs, which includes this file), the XDP program (suite `rows`) and the kernel
//! itself (suite `wire`) are tested against it.
//!
//! Up to three zero bytes of padding do not change a row's meaning. No row has 18 bytes or more after a malformed
//! option: Linux 6.7 and later drop such a SYN when TCP signatures are in use.

use Says::{Backup, BadCookie, BadLength, Nothing, Primary, Request};

/// Placeholder in a row's options for the cookie of the primary key.
pub const PRIMARY: [u8; 8] = *b"ABCDEFGH";
/// Placeholder in a row's options for the cookie of the backup key.
pub const BACKUP: [u8; 8] = *b"abcdefgh";
/// A cookie that no key issues.
pub const BAD: [u8; 8] = *b"********";

/// Fast Open content of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// No valid Fast Open option.
    Nothing,
    /// A cookie request.
    Request,
    /// The cookie of the primary key.
    Primary,
    /// The cookie of the backup key.
    Backup,
    /// A cookie that no key issues.
    BadCookie,
    /// A cookie of a valid length (4 to 16 bytes, even) other than the 8 bytes that Linux issues.
    BadLength,
}

/// TCP options of a SYN, and Linux's interpretation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The rule that the row tests.
    pub rule: &'static str,
    /// At most 40 bytes. Bytes of [`PRIMARY`] and [`BACKUP`] are placeholders for those of cookies.
    pub options: &'static [u8],
    /// The Fast Open option in effect.
    pub says: Says,
    /// The option in effect is experimental: kind 254 with the magic number 0xf989 (RFC 6994).
    pub experimental: bool,
    /// The option list or a Fast Open option is malformed.
    pub malformed: bool,
}

impl Row {
    const fn experimental(self) -> Self {
        Self {
            experimental: true,
            ..self
        }
    }

    const fn malformed(self) -> Self {
        Self {
            malformed: true,
            ..self
        }
    }
}

/// The rows of all tables.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [LENGTHS, EXPERIMENTAL, REPEATS, ENDS, NEIGHBOURS]
        .into_iter()
        .flatten()
}

const fn row(rule: &'static str, options: &'static [u8], says: Says) -> Row {
    Row {
        rule,
        options,
        says,
        experimental: false,
        malformed: false,
    }
}

/// One option of kind 34, by cookie length.
#[rustfmt::skip]
pub const LENGTHS: &[Row] = &[
    row("no options", b"", Nothing),
    row("length 0 is a request", b"\x22\x02", Request),
    row("length 1 is odd", b"\x22\x03A", Nothing).malformed(),
    row("length 2 is too short", b"\x22\x04AB", Nothing).malformed(),
    row("length 3 is odd", b"\x22\x05ABC", Nothing).malformed(),
    row("length 4 is valid", b"\x22\x06ABCD", BadLength),
    row("length 5 is odd", b"\x22\x07ABCDE", Nothing).malformed(),
    row("length 6 is valid", b"\x22\x08ABCDEF", BadLength),
    row("length 7 is odd", b"\x22\x09ABCDEFG", Nothing).malformed(),
    row("length 8: the primary cookie", b"\x22\x0aABCDEFGH", Primary),
    row("length 8: the backup cookie", b"\x22\x0aabcdefgh", Backup),
    row("length 8: a bad cookie", b"\x22\x0a********", BadCookie),
    row("length 9 is odd", b"\x22\x0bABCDEFGH+", Nothing).malformed(),
    row("length 10 is valid", b"\x22\x0cABCDEFGH++", BadLength),
    row("length 12 is valid", b"\x22\x0eABCDEFGH++++", BadLength),
    row("length 14 is valid", b"\x22\x10ABCDEFGH++++++", BadLength),
    row("length 15 is odd", b"\x22\x11ABCDEFGH+++++++", Nothing).malformed(),
    row("length 16 is valid", b"\x22\x12ABCDEFGHABCDEFGH", BadLength),
    row("length 17 is odd", b"\x22\x13ABCDEFGHABCDEFGH+", Nothing).malformed(),
    row("length 18 is too long", b"\x22\x14ABCDEFGHABCDEFGH++", Nothing).malformed(),
    row("length 20 is too long", b"\x22\x16ABCDEFGHABCDEFGH++++", Nothing).malformed(),
    row("length 38 is too long", b"\x22\x28ABCDEFGH++++++++++++++++++++++++++++++", Nothing).malformed(),
];

/// One option of kind 254, by cookie length and magic number.
#[rustfmt::skip]
pub const EXPERIMENTAL: &[Row] = &[
    row("kind 254, length 0 is a request", b"\xfe\x04\xf9\x89", Request).experimental(),
    row("kind 254, length 1 is odd", b"\xfe\x05\xf9\x89A", Nothing).malformed(),
    row("kind 254, length 2 is too short", b"\xfe\x06\xf9\x89AB", Nothing).malformed(),
    row("kind 254, length 3 is odd", b"\xfe\x07\xf9\x89ABC", Nothing).malformed(),
    row("kind 254, length 4 is valid", b"\xfe\x08\xf9\x89ABCD", BadLength).experimental(),
    row("kind 254, length 5 is odd", b"\xfe\x09\xf9\x89ABCDE", Nothing).malformed(),
    row("kind 254, length 6 is valid", b"\xfe\x0a\xf9\x89ABCDEF", BadLength).experimental(),
    row("kind 254, length 7 is odd", b"\xfe\x0b\xf9\x89ABCDEFG", Nothing).malformed(),
    row("kind 254: the primary cookie", b"\xfe\x0c\xf9\x89ABCDEFGH", Primary).experimental(),
    row("kind 254: the backup cookie", b"\xfe\x0c\xf9\x89abcdefgh", Backup).experimental(),
    row("kind 254: a bad cookie", b"\xfe\x0c\xf9\x89********", BadCookie).experimental(),
    row("kind 254, length 9 is odd", b"\xfe\x0d\xf9\x89ABCDEFGH+", Nothing).malformed(),
    row("kind 254, length 10 is valid", b"\xfe\x0e\xf9\x89ABCDEFGH++", BadLength).experimental(),
    row("kind 254, length 12 is valid", b"\xfe\x10\xf9\x89ABCDEFGH++++", BadLength).experimental(),
    row("kind 254, length 14 is valid", b"\xfe\x12\xf9\x89ABCDEFGH++++++", BadLength).experimental(),
    row("kind 254, length 15 is odd", b"\xfe\x13\xf9\x89ABCDEFGH+++++++", Nothing).malformed(),
    row("kind 254, length 16 is valid", b"\xfe\x14\xf9\x89ABCDEFGHABCDEFGH", BadLength).experimental(),
    row("kind 254, length 17 is odd", b"\xfe\x15\xf9\x89ABCDEFGHABCDEFGH+", Nothing).malformed(),
    row("kind 254, length 18 is too long", b"\xfe\x16\xf9\x89ABCDEFGHABCDEFGH++", Nothing).malformed(),
    row("kind 254, length 20 is too long", b"\xfe\x18\xf9\x89ABCDEFGHABCDEFGH++++", Nothing).malformed(),
    row("another magic number is another option", b"\xfe\x0c\xf9\x88ABCDEFGH", Nothing),
    row("a short option of another magic number", b"\xfe\x06\xf9\x88\x01\x01", Nothing),
    row("size 3 has half a magic number", b"\xfe\x03\xf9\x01", Nothing),
    row("kind 253 is another option", b"\xfd\x0c\xf9\x89ABCDEFGH", Nothing),
    row("kind 253, empty", b"\xfd\x04\xf9\x89", Nothing),
];

/// Several Fast Open options: the last valid one takes effect.
#[rustfmt::skip]
pub const REPEATS: &[Row] = &[
    row("the last cookie counts: primary", b"\x22\x0a********\x22\x0aABCDEFGH", Primary),
    row("the last cookie counts: bad", b"\x22\x0aABCDEFGH\x22\x0a********", BadCookie),
    row("a request behind a cookie counts", b"\x22\x0aABCDEFGH\x22\x02", Request),
    row("a cookie behind a request counts", b"\x22\x02\x22\x0aABCDEFGH", Primary),
    row("a cookie of a valid length counts", b"\x22\x0aABCDEFGH\x22\x06ABCD", BadLength),
    row("length 2 erases a cookie", b"\x22\x0aABCDEFGH\x22\x04AB", Nothing).malformed(),
    row("length 18 erases a cookie", b"\x22\x0aABCDEFGH\x22\x14++++++++++++++++++", Nothing).malformed(),
    row("an odd length does not erase a cookie", b"\x22\x0aABCDEFGH\x22\x05ABC", Primary).malformed(),
    row("a cookie behind an erased one counts", b"\x22\x04AB\x22\x0aABCDEFGH", Primary).malformed(),
    row("kind 254 behind kind 34 counts", b"\x22\x02\xfe\x0c\xf9\x89ABCDEFGH", Primary).experimental(),
    row("kind 254 behind a bad cookie counts", b"\x22\x0a********\xfe\x0c\xf9\x89ABCDEFGH", Primary).experimental(),
    row("a request of kind 254 behind a cookie counts", b"\x22\x0aABCDEFGH\xfe\x04\xf9\x89", Request).experimental(),
    row("kind 34 behind kind 254 counts", b"\xfe\x0c\xf9\x89ABCDEFGH\x22\x02", Request),
    row("kind 34 behind a bad cookie counts", b"\xfe\x0c\xf9\x89********\x22\x0aABCDEFGH", Primary),
    row("kind 34 behind a request of kind 254 counts", b"\xfe\x04\xf9\x89\x22\x0aABCDEFGH", Primary),
    row("kind 254 erases kind 34", b"\x22\x0aABCDEFGH\xfe\x06\xf9\x89AB", Nothing).malformed(),
    row("kind 34 erases kind 254", b"\xfe\x0c\xf9\x89ABCDEFGH\x22\x04AB", Nothing).malformed(),
    row("an odd kind 34 leaves kind 254", b"\xfe\x04\xf9\x89\x22\x03A", Request).experimental().malformed(),
    row("another magic number leaves kind 34", b"\x22\x0aABCDEFGH\xfe\x06\xf9\x88AB", Primary),
    row("20 requests", b"\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\
          \x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02\x22\x02", Request),
];

/// Lists that end before their last byte.
#[rustfmt::skip]
pub const ENDS: &[Row] = &[
    row("an end of list hides what follows", b"\0\x22\x0aABCDEFGH", Nothing),
    row("what stands before an end of list counts", b"\x22\x02\0\0\x22\x0aABCDEFGH", Request),
    row("an end of list hides a bad cookie", b"\x22\x0aABCDEFGH\0\0\x22\x0a********\0\0", Primary),
    row("an end of list hides a request", b"\x22\x0aABCDEFGH\0\x22\x02", Primary),
    row("size 0 ends the list", b"\x02\x00\x22\x0aABCDEFGH", Nothing).malformed(),
    row("size 0 of an unknown kind ends the list", b"\x05\x00\x22\x0aABCDEFGH", Nothing).malformed(),
    row("size 1 ends the list", b"\x02\x01\x22\x0aABCDEFGH", Nothing).malformed(),
    row("what stands before a size 0 counts", b"\x22\x0aABCDEFGH\x22\x00", Primary).malformed(),
    row("what stands before a size 1 counts", b"\x22\x0aABCDEFGH\x22\x01", Primary).malformed(),
    row("a size past the end, behind a cookie", b"\x22\x0aABCDEFGH\x22\x03", Primary).malformed(),
    row("a size far past the end, behind a cookie", b"\x22\x0aABCDEFGH\x22\x28", Primary).malformed(),
    row("a size past the end, behind a request", b"\x01\x22\x02\x22\x0aABCDEFG", Request).malformed(),
    row("a cookie that goes past the end", b"\x01\x01\x01\x22\x0aABCDEFG", Nothing).malformed(),
    row("an experimental option with a size of 2", b"\xfe\x02\xf9\x89", Nothing).malformed(),
    row("another option's size past the end", b"\x22\x02\x08\x0a++++", Request).malformed(),
    row("a kind without a size ends the list", b"\x01\x22\x0aABCDEFGH\x22", Primary).malformed(),
    row("another kind without a size does too", b"\x01\x22\x0aABCDEFGH\x03", Primary).malformed(),
    row("an end of list may be the last byte", b"\x01\x22\x0aABCDEFGH\0", Primary),
    row("a no-operation may be the last byte", b"\x01\x22\x0aABCDEFGH\x01", Primary),
];

/// Other options before and after a Fast Open option.
#[rustfmt::skip]
pub const NEIGHBOURS: &[Row] = &[
    row("an unknown option is skipped", b"\x4e\x04\x22\x02\x22\x0aABCDEFGH", Primary),
    row("an unknown option alone", b"\x4e\x0aABCDEFGH", Nothing),
    row("an unknown option of an odd size is skipped", b"\xc8\x05+++\x01\x01\x22\x0aABCDEFGH", Primary),
    row("an option without a value is skipped", b"\x4e\x02\x22\x0aABCDEFGH", Primary),
    row("no-operations are skipped", b"\x01\x01\x22\x0aABCDEFGH\x01\x01", Primary),
    row("a request as Linux sends it",
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a++++\0\0\0\0\x01\x03\x03\x07\x22\x02\x01\x01", Request),
    row("a cookie as Linux sends it",
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a++++\0\0\0\0\x01\x03\x03\x07\x22\x0aABCDEFGH\x01\x01", Primary),
    row("40 no-operations", &[1; 40], Nothing),
    row("a kind without a size behind 39 no-operations",
        b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x22", Nothing).malformed(),
    row("a request behind 38 no-operations",
        b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x22\x02", Request),
    row("a cookie behind 30 no-operations",
        b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x22\x0aABCDEFGH", Primary),
    row("a cookie before 30 no-operations",
        b"\x22\x0aABCDEFGH\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
          \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01", Primary),
    row("the last cookie that fits",
        b"\x4e\x1e++++++++++++++++++++++++++++\x22\x0aABCDEFGH", Primary),
];
