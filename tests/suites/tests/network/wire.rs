//! The kernel's truth table, row by row on the wire: crafted SYNs to a real listener, with `tfo` on the
//! interface. The kernel decides what each row counts and answers; `tfo` has to count the same.

use anyhow::{Context as _, Result, ensure};
use tfo_tests::{
    bed::{Bed, Tally},
    keys,
    raw::{Answer, RawClient, RawSyn},
    veth::{Family, Pair, server_port},
};

const DATA: &[u8] = b"0123456789";

/// Which cookie the SYN-ACK brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reissued {
    Nothing,
    Primary(u8),
}

/// A row of the table.
struct Row {
    name: String,
    options: Vec<u8>,
    /// Whether data in the SYN is acknowledged.
    taken: bool,
    counts: Tally,
    reissued: Reissued,
}

/// The option that holds `cookie`, of kind 34 or 254.
fn option(kind: u8, cookie: &[u8]) -> Vec<u8> {
    RawSyn::fast_open(kind, cookie, &[]).options
}

const NONE: Tally = Tally {
    requests: 0,
    passive: 0,
    failed: 0,
    alt_key: 0,
    overflows: 0,
};
const REQUEST: Tally = Tally {
    requests: 1,
    ..NONE
};
const PASSIVE: Tally = Tally { passive: 1, ..NONE };
const ALT_KEY: Tally = Tally {
    passive: 1,
    alt_key: 1,
    ..NONE
};
const FAILED: Tally = Tally { failed: 1, ..NONE };

/// The rows for a client whose cookies are these.
#[expect(clippy::too_many_lines, reason = "a table, one row after another")]
fn rows(primary: [u8; 8], backup: [u8; 8]) -> Vec<Row> {
    use Reissued::{Nothing, Primary};
    let mut rows = Vec::new();
    let mut row = |name: &str, options: Vec<u8>, taken, counts, reissued| {
        rows.push(Row {
            name: name.to_owned(),
            options,
            taken,
            counts,
            reissued,
        });
    };
    row("no option", vec![], false, NONE, Nothing);
    for kind in [34, 254] {
        row("request", option(kind, &[]), false, REQUEST, Primary(kind));
        row("primary", option(kind, &primary), true, PASSIVE, Nothing);
        row(
            "backup",
            option(kind, &backup),
            true,
            ALT_KEY,
            Primary(kind),
        );
        row("bad", option(kind, &[7; 8]), false, FAILED, Primary(kind));
        for len in [4, 6, 10, 12, 14, 16] {
            let cookie = &[primary, primary].concat()[..len];
            row(
                "even length",
                option(kind, cookie),
                false,
                FAILED,
                Primary(kind),
            );
        }
        for len in [1, 2, 3, 5, 7, 9, 15, 17, 18, 20] {
            let cookie = &[primary, primary, primary].concat()[..len];
            row("passed over", option(kind, cookie), false, NONE, Nothing);
        }
    }
    let then = |first: &[u8], second: &[u8]| [first, second].concat();
    let valid = option(34, &primary);
    row(
        "the last of two counts",
        then(&option(34, &[7; 8]), &valid),
        true,
        PASSIVE,
        Nothing,
    );
    row(
        "the last of two counts",
        then(&valid, &option(34, &[])),
        false,
        REQUEST,
        Primary(34),
    );
    row(
        "across kinds",
        then(&option(254, &[]), &valid),
        true,
        PASSIVE,
        Nothing,
    );
    row(
        "across kinds",
        then(&valid, &option(254, &[])),
        false,
        REQUEST,
        Primary(254),
    );
    row(
        "2 bytes erase",
        then(&valid, &option(34, &[1, 2])),
        false,
        NONE,
        Nothing,
    );
    row(
        "3 bytes do not",
        then(&valid, &option(34, &[1, 2, 3])),
        true,
        PASSIVE,
        Nothing,
    );
    row("end of list", then(&[0], &valid), false, NONE, Nothing);
    row(
        "end of list",
        then(&valid, &[0, 34, 2]),
        true,
        PASSIVE,
        Nothing,
    );
    row("size 0", then(&[5, 0], &valid), false, NONE, Nothing);
    row("size 1", then(&valid, &[34, 1]), true, PASSIVE, Nothing);
    row(
        "size past the end",
        then(&valid, &[34, 40]),
        true,
        PASSIVE,
        Nothing,
    );
    row(
        "kind without size",
        then(&valid, &[1, 34]),
        true,
        PASSIVE,
        Nothing,
    );
    row(
        "unknown kinds",
        then(&[200, 5, 1, 2, 3, 1, 1], &valid),
        true,
        PASSIVE,
        Nothing,
    );
    row(
        "another magic",
        vec![254, 6, 0xf9, 0x88, 1, 1],
        false,
        NONE,
        Nothing,
    );
    row(
        "magic cut short",
        vec![254, 3, 0xf9, 1],
        false,
        NONE,
        Nothing,
    );
    row("kind 253", vec![253, 4, 0xf9, 0x89], false, NONE, Nothing);
    rows
}

fn the_table(family: Family) -> Result<()> {
    let pair = Pair::new()?;
    let both = format!("{},{}", keys::COUNTING, keys::OTHER);
    pair.server.set_sysctl(keys::SYSCTL, &both)?;
    let bed = Bed::attach(pair, &[])?;
    let listener = bed.listen(family)?;
    let server = server_port(family, listener.port());
    let mut client = RawClient::new(&bed.pair, family, 0)?;
    let [primary, backup] = [keys::COUNTING, keys::OTHER].map(|key| {
        keys::parse(key).map(|key| keys::cookie(&key[0], client.address(), server.ip()))
    });
    let (primary, backup) = (primary?, backup?);
    let mut before = NONE;
    let mut syns = 0;
    for row in rows(primary, backup) {
        for data in [DATA, &[]] {
            let name = format!(
                "{}: {:02x?} with {} bytes",
                row.name,
                row.options,
                data.len()
            );
            let syn = RawSyn {
                options: row.options.clone(),
                data: data.to_owned(),
            };
            let answer = client.send(server, &syn)?;
            let acked = if row.taken { data.len() as u32 } else { 0 };
            let cookie = match row.reissued {
                Reissued::Nothing => None,
                Reissued::Primary(kind) => Some((kind, primary.to_vec())),
            };
            ensure!(
                answer == Answer::SynAck { acked, cookie },
                "{name}: {answer:?}"
            );
            let stats = bed.equal().with_context(|| name.clone())?;
            let now = Tally::of(|name| stats.counters.get(name).copied().unwrap_or(-1));
            let counted = now.less(before);
            ensure!(counted == row.counts, "{name}: counted {counted}");
            before = now;
            syns += 1;
            ensure!(
                stats.counters.get("Syns") == Some(&syns),
                "{name}: {stats:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_table_v4() -> Result<()> {
    the_table(Family::V4)
}

#[test]
fn the_table_v6() -> Result<()> {
    the_table(Family::V6)
}
