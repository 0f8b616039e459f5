//! The guard's answers to frames that veth does not deliver, such as tagged ones.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use etherparse::EtherType;
use tfo_common::{guard::GuardMode, rate::Rate};
use tfo_testbed::{
    netns::Netns,
    packet::{Segment, linux_options},
    program::Program,
    socket::Listener,
};
use tfo_userspace::model::{Guard, Mirror, PortGuard, Settings};

const PORT: u16 = 443;
/// `XDP_TX`.
const BACK: u32 = 3;
/// Bytes of both Ethernet addresses.
const ADDRESSES: usize = 12;
const TAG: usize = 4;

fn guard() -> Guard {
    let rule = PortGuard {
        mode: GuardMode::On,
        ..PortGuard::default()
    };
    Guard {
        replies: Rate::UNLIMITED,
        default: Some(rule),
        ..Guard::default()
    }
}

/// The answer keeps VLAN tags, and drops IP options and extension headers.
#[test]
fn tags_come_back_and_ip_options_do_not() -> Result<()> {
    let netns = Netns::new("frames")?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let _listener = Listener::fast_open(&netns, any)?;
    netns.run(|| {
        let mut program = Program::guarding(Settings::from(Mirror::Exact), &[])?;
        program.datapath().set_guard(Some(&guard()))?;
        let answer = |frame: &[u8]| -> Result<Vec<u8>> {
            let (verdict, out, _) = program.run(frame)?;
            ensure!(verdict == BACK, "verdict {verdict} for {frame:02x?}");
            Ok(out)
        };
        for [client, server] in [
            ["192.0.2.7:50000", "198.51.100.2:443"],
            ["[2001:db8::7]:50000", "[2001:db8::2]:443"],
        ] {
            let (client, server) = (client.parse()?, server.parse()?);
            let syn = || Segment::syn(client, server).options(&linux_options(&[]));
            let plain = syn().frame();
            let expected = answer(&plain)?;
            ensure!(expected[..6] == plain[6..12]);
            ensure!(expected[6..12] == plain[..6]);

            let one = syn().vlan(EtherType::VLAN_TAGGED_FRAME);
            let two = syn()
                .vlan(EtherType::PROVIDER_BRIDGING)
                .vlan(EtherType::VLAN_TAGGED_FRAME);
            for (tags, tagged) in [(1, one.frame()), (2, two.frame())] {
                let tags = &tagged[ADDRESSES..][..tags * TAG];
                let expected = [&expected[..ADDRESSES], tags, &expected[ADDRESSES..]].concat();
                ensure!(answer(&tagged)? == expected, "{server}: {tags:02x?}");
            }
            for frame in [syn().ip_options().frame(), syn().padded_frame()] {
                ensure!(answer(&frame)? == expected, "{server}: {frame:02x?}");
            }
        }
        Ok(())
    })
}
