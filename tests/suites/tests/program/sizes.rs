//! The histogram of data bytes in SYNs.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Result;
use tfo_testbed::{packet::Segment, program::Program};

/// Every SYN with data is counted in its bucket, with or without Fast Open. No other frame is.
#[test]
fn each_size_in_its_bucket() -> Result<()> {
    let mut program = Program::with_keys(&[])?;
    let client = SocketAddr::from(([192, 0, 2, 7], 2000));
    let server = SocketAddr::from(([198, 51, 100, 2], 443));
    let mut expected = BTreeMap::new();
    for len in [
        0, 1, 2, 3, 4, 7, 8, 100, 127, 128, 536, 1023, 1024, 1400, 2048,
    ] {
        let frame = Segment::syn(client, server).data(&vec![b'x'; len]);
        program.pass(&frame.padded_frame())?;
        if len > 0 {
            *expected.entry(1u32 << len.ilog2()).or_insert(0) += 1;
        }
    }
    let sizes = program.datapath().sizes()?;
    let counted: BTreeMap<u32, u64> = sizes
        .buckets()
        .filter(|(.., count)| *count > 0)
        .map(|(least, _, count)| (least, count))
        .collect();
    assert_eq!(counted, expected);
    Ok(())
}
