//! Fast Open clients and servers in Python and curl, which do not use `tfo`'s code.

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    clients::{self, PYTHON_PORT},
    kernel::TcpExt,
    testbed::{Tally, Testbed},
    veth::{Family, server_port},
};

const THREE_CONNECTIONS: Tally = Tally {
    requests: 1,
    passive: 2,
    failed: 0,
    alt_key: 0,
    overflows: 0,
};

fn python(family: Family) -> Result<()> {
    let testbed = Testbed::new()?;
    clients::python(&testbed.pair, family)?;
    testbed.expect(THREE_CONNECTIONS)?;
    let port = testbed.tfo.stats_by_port()?;
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
    let testbed = Testbed::new()?;
    let listener = testbed.listen(family)?;
    let server = server_port(family, listener.port());
    clients::curl(&testbed.pair.client, server, &[&listener])?;
    testbed.expect(THREE_CONNECTIONS)?;
    // The SYN-ACK acknowledged the data in the SYN.
    ensure!(TcpExt::read(&testbed.pair.client)?.get("TCPFastOpenActive") == 2);
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
