//! SYNs whose VLAN tag the NIC has taken off: XDP sees frames without a tag, and the way back to their sender leads by another
//! device than the one that they came by. A second veth stands for the VLAN device.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::{GuardChallenged, GuardUnanswered};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, linux_options},
    poll::wait_for,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use super::testbed::{GuardTestbed, grown, in_each_mode};

/// The client's and the server's end of the other way.
const OTHER: [&str; 2] = ["client1", "server1"];
const LIMIT: Duration = Duration::from_secs(20);

/// A second way to the client, with the networks `10.78.0.0/24` and `fd78::/64`.
fn add_way(pair: &Pair) -> Result<()> {
    let [at_client, at_server] = OTHER;
    pair.client.configure(&[
        format!(
            "link add {at_client} type veth peer name {at_server} netns {}",
            pair.server.name()
        ),
        format!("link set {at_client} up"),
    ])?;
    let mac = NOBODYS_MAC.map(|byte| format!("{byte:02x}")).join(":");
    pair.server.configure(&[
        format!("link set {at_server} up"),
        format!("addr add 10.78.0.1/24 dev {at_server}"),
        format!("addr add fd78::1/64 dev {at_server} nodad"),
        format!("neigh replace 10.78.0.2 lladdr {mac} dev {at_server} nud permanent"),
        format!("neigh replace fd78::2 lladdr {mac} dev {at_server} nud permanent"),
    ])?;
    // Else the kernel drops what came by another device than the one that leads back.
    for interface in ["all", SERVER_INTERFACE] {
        let key = format!("net.ipv4.conf.{interface}.rp_filter");
        pair.server.set_sysctl(&key, "0")?;
    }
    Ok(())
}

/// `true` for a SYN-ACK to this port.
fn is_answer(frame: &[u8], family: Family, port: u16) -> bool {
    let tcp = if family == Family::V4 { 34 } else { 54 };
    let to = frame.get(tcp + 2..tcp + 4) == Some(&port.to_be_bytes());
    to && frame
        .get(tcp + 13)
        .is_some_and(|flags| flags & 0x12 == 0x12)
}

/// The answer leaves by the other device, by way of the kernel where XDP cannot send it there; nothing leaves by the one that
/// the SYN came by.
fn an_untagged_frame_is_not_answered_untagged(mode: Mode) -> Result<()> {
    const PORT: u16 = 40_000;
    const MARKER: u16 = 40_001;
    let testbed = GuardTestbed::new(mode)?;
    let pair = &testbed.base.pair;
    add_way(pair)?;
    for family in Family::BOTH {
        let listener = testbed.base.listen(family)?;
        testbed.guard(listener.port(), "on", &[])?;
        let before = testbed.counters()?;
        let near = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
        let far = LinkSocket::open(&pair.client, OTHER[0], Frames::All)?;
        let behind = match family {
            Family::V4 => "10.78.0.2",
            Family::V6 => "fd78::2",
        };
        let send = |source, port| -> Result<()> {
            let source = SocketAddr::new(source, port);
            let syn = Segment::syn(source, server_port(family, listener.port()));
            near.send(&syn.options(&linux_options(&[])).frame())?;
            Ok(())
        };
        send(behind.parse()?, PORT)?;
        wait_for("the answer by the other device", LIMIT, || {
            let frame = far.receive(Duration::from_millis(100))?;
            Ok(frame.filter(|frame| is_answer(frame, family, PORT)))
        })
        .with_context(|| family.to_string())?;
        // What leaves by this one after it.
        send(family.spare(0), MARKER)?;
        let mut wrong = 0;
        wait_for("the marker's answer", LIMIT, || {
            let frame = near.receive(Duration::from_millis(100))?;
            wrong += u32::from(
                frame
                    .as_ref()
                    .is_some_and(|frame| is_answer(frame, family, PORT)),
            );
            Ok(frame.filter(|frame| is_answer(frame, family, MARKER)))
        })?;
        ensure!(wrong == 0, "{family}: {wrong} answers without the tag");
        let grown = grown(&before, &testbed.counters()?);
        let expected = match mode {
            Mode::Tc => vec![(GuardChallenged, 2)],
            Mode::Native | Mode::Generic => vec![(GuardChallenged, 1), (GuardUnanswered, 1)],
        };
        ensure!(grown == expected, "{family}: {grown:?}");
    }
    Ok(())
}

in_each_mode! {
    an_untagged_frame_is_not_answered_untagged;
}
