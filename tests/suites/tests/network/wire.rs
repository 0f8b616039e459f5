//! The SYN table on a live listener with `tfo` on the interface: the kernel confirms each row's counts and answer,
//! and `tfo` must count the same.

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys,
    packet::row_options,
    raw::{Answer, RawClient, RawSyn},
    syn_table::{Row, Says, rows},
    testbed::{Tally, Testbed},
    veth::{Family, Pair, server_port},
};

const DATA: &[u8] = b"0123456789";

/// The kernel's counts for a row.
fn counts(row: &Row) -> Tally {
    let none = Tally::default();
    match row.says {
        Says::Nothing => none,
        Says::Request => Tally {
            requests: 1,
            ..none
        },
        Says::Primary => Tally { passive: 1, ..none },
        Says::Backup => Tally {
            passive: 1,
            alt_key: 1,
            ..none
        },
        Says::BadCookie | Says::BadLength => Tally { failed: 1, ..none },
    }
}

/// The kernel's answer to a row with `data` in the SYN. `primary` is the client's cookie of the primary key.
fn answer(row: &Row, data: &[u8], primary: [u8; 8]) -> Answer {
    let taken = matches!(row.says, Says::Primary | Says::Backup);
    // A new cookie is sent in the form of the client's option.
    let kind = if row.experimental { 254 } else { 34 };
    let issues = !matches!(row.says, Says::Nothing | Says::Primary);
    Answer::SynAck {
        acked: if taken { data.len() as u32 } else { 0 },
        cookie: issues.then(|| (kind, primary.to_vec())),
    }
}

fn the_table(family: Family) -> Result<()> {
    let pair = Pair::new()?;
    let both = format!("{},{}", keys::COUNTING, keys::OTHER);
    pair.server.set_sysctl(keys::SYSCTL, &both)?;
    let testbed = Testbed::attach(pair, &[])?;
    let listener = testbed.listen(family)?;
    let server = server_port(family, listener.port());
    let mut client = RawClient::new(&testbed.pair, family, 0)?;
    let [primary, backup] = [keys::COUNTING, keys::OTHER].map(|key| {
        keys::parse(key).map(|key| keys::cookie(&key[0], client.address(), server.ip()))
    });
    let (primary, backup) = (primary?, backup?);
    let mut before = Tally::default();
    let mut syns = 0;
    for row in rows() {
        let options = row_options(row, &primary, &backup);
        for data in [DATA, &[]] {
            let name = format!("{}: {options:02x?}, {} bytes", row.rule, data.len());
            let syn = RawSyn {
                options: options.to_vec(),
                data: data.to_owned(),
            };
            let answered = client.send(server, &syn)?;
            let expected = answer(row, data, primary);
            ensure!(
                answered == expected,
                "{name}: {answered:?}, not {expected:?}"
            );
            let stats = testbed.equal().with_context(|| name.clone())?;
            let now = Tally::of(|name| stats.counters.get(name).copied().unwrap_or(-1));
            let counted = now.less(before);
            ensure!(counted == counts(row), "{name}: counted {counted}");
            before = now;
            syns += 1;
            let counted = stats.counters.get("Syns");
            ensure!(
                counted == Some(&syns),
                "{name}: {counted:?} SYNs, not {syns}"
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
