//! Clients and servers that know nothing of `tfo`: Python's plainest, and curl.

use anyhow::{Context as _, Result, ensure};
use tfo_tests::{
    bed::{Bed, Tally},
    clients::{self, PYTHON_PORT},
    kernel::TcpExt,
    veth::Family,
};

const THREE_CONNECTIONS: Tally = Tally {
    requests: 1,
    passive: 2,
    failed: 0,
    alt_key: 0,
    overflows: 0,
};

fn python(family: Family) -> Result<()> {
    let bed = Bed::new()?;
    clients::python(&bed.pair, family)?;
    bed.expect(THREE_CONNECTIONS)?;
    let port = bed.tfo.stats_by_port()?;
    let port = port
        .get(&PYTHON_PORT)
        .context("no counters of Python's port")?;
    ensure!(port.get("TCPFastOpenPassive") == Some(&2), "{port:?}");
    Ok(())
}

#[test]
fn pythons_plainest_client_v4() -> Result<()> {
    python(Family::V4)
}

#[test]
fn pythons_plainest_client_v6() -> Result<()> {
    python(Family::V6)
}

fn curl(family: Family) -> Result<()> {
    let bed = Bed::new()?;
    let listener = bed.listen(family)?;
    clients::curl(&bed.pair, &listener, family)?;
    bed.expect(THREE_CONNECTIONS)?;
    // The client's kernel saw its data acknowledged in the SYN-ACK.
    ensure!(TcpExt::read(&bed.pair.client)?.get("TCPFastOpenActive") == 2);
    Ok(())
}

#[test]
fn curl_v4() -> Result<()> {
    curl(Family::V4)
}

#[test]
fn curl_v6() -> Result<()> {
    curl(Family::V6)
}
