//! Own cookies under `BPF_PROG_TEST_RUN`: what is translated, and what is not.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{counters::Counter, fastopen::Key};
use tfo_testbed::{
    keys,
    netns::Netns,
    own_cookies::{self, LIFETIME, SLOT, addresses},
    packet::{Segment, cookie, experimental, fast_open},
    program::{KeyBytes, PASS, Program},
    seed::rng,
    socket::Listener,
};
use tfo_userspace::model::{Mirror, Settings};

const PORT: u16 = 443;
const PRIMARY: KeyBytes = *b"a primary key...";
const BACKUP: KeyBytes = *b"a backup key....";

/// A namespace with a listener and these keys, and the program.
fn loaded(test: impl FnOnce(&Program) -> Result<()> + Send) -> Result<()> {
    let netns = Netns::new("own")?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    let shown = [PRIMARY, BACKUP].map(|key| {
        let groups = Key::from_bytes(key).to_groups();
        groups.map(|group| format!("{group:08x}")).join("-")
    });
    netns.set_sysctl(keys::SYSCTL, &shown.join(","))?;
    let any: SocketAddr = ([0_u16; 8], PORT).into();
    let _listener = Listener::fast_open(&netns, any)?;
    netns.run(|| {
        let settings = Settings::from(Mirror::Exact);
        let mut program = Program::translating(settings, &[PRIMARY, BACKUP])?;
        program
            .datapath()
            .set_own_cookies(Some(&own_cookies::fixed()))?;
        test(&program)
    })
}

fn ends(client: &str, server: &str) -> Result<[IpAddr; 2]> {
    Ok([client.parse()?, server.parse()?])
}

/// The frame becomes exactly the one with the kernel's cookie, checksum and all.
#[test]
fn the_frame_is_the_one_with_the_kernels_cookie() -> Result<()> {
    loaded(|program| {
        for ends in [
            ends("192.0.2.7", "198.51.100.2")?,
            ends("2001:db8::7", "2001:db8::2")?,
        ] {
            let [client, server] = ends;
            let own = |slots| own_cookies::issued(&addresses(client, server), slots).to_bytes();
            for (slots, key) in [
                (0, Some(PRIMARY)),
                (LIFETIME / 2, Some(PRIMARY)),
                (LIFETIME / 2 + 1, Some(BACKUP)),
                (LIFETIME, Some(BACKUP)),
                (LIFETIME + 1, None),
            ] {
                for (pad, kind) in [(0, 34), (1, 34), (0, 254), (1, 254)] {
                    let frame = |cookie: &[u8]| {
                        let option = match kind {
                            34 => fast_open(cookie),
                            _ => experimental(cookie),
                        };
                        let options = [&vec![1; pad][..], &option].concat();
                        let ends = [(client, 50_000), (server, PORT)].map(SocketAddr::from);
                        let syn = Segment::syn(ends[0], ends[1]).options(&options);
                        syn.data(b"GET / HTTP/1.1").frame()
                    };
                    let came = frame(&own(slots));
                    let expected = match key {
                        Some(key) => frame(&cookie(&key, client, server)),
                        None => came.clone(),
                    };
                    let (verdict, out, _) = program.run(&came)?;
                    ensure!(verdict == PASS, "verdict {verdict}");
                    ensure!(
                        out == expected,
                        "{server}, {slots}, kind {kind}: {out:02x?} instead of {expected:02x?}"
                    );
                }
            }
        }
        Ok(())
    })
}

/// `TFO_COOKIES` sets the number.
#[test]
fn random_cookies_are_left_alone() -> Result<()> {
    let count = match std::env::var("TFO_COOKIES") {
        Ok(text) => text.parse().context("TFO_COOKIES")?,
        Err(_) => 100_000,
    };
    let mut random = rng()?;
    loaded(|program| {
        let ends = [([192, 0, 2, 7], 50_000), ([198, 51, 100, 2], PORT)].map(SocketAddr::from);
        for _ in 0..count {
            let mut cookie: [u8; 8] = random.u64(..).to_le_bytes();
            // Of a live slot, so that each is hashed.
            cookie[0] = (SLOT - random.u64(0..=LIFETIME)) as u8;
            let syn = Segment::syn(ends[0], ends[1]).options(&fast_open(&cookie));
            program.pass(&syn.frame())?;
        }
        let counters = program.counters()?.total;
        for counter in Counter::OWN_COOKIES {
            ensure!(counters.get(counter) == 0, "{counters:?}");
        }
        ensure!(counters.get(Counter::PassiveFail) == count);
        Ok(())
    })
}
