//! Client and listener negotiate the same parameters with and without the guard, by both kernels' reports.

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter::{self, *},
    guard::challenge::MSS_TABLE,
};
use tfo_testbed::{
    keys,
    socket::{Listener, Method, Terms},
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
    xdp::Mode,
};

use super::testbed::{Ends, GuardTestbed, grown, in_each_mode};

/// Sysctls for timestamps, SACK, window scaling and ECN.
const SETTINGS: [&str; 4] = [
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_ecn",
];

/// Two listeners, with and without the guard.
struct Comparison {
    testbed: GuardTestbed,
    family: Family,
    plain: Listener,
    guarded: Listener,
}

impl Comparison {
    fn new(mode: Mode, family: Family) -> Result<Self> {
        let pair = Pair::new()?;
        pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        let testbed = GuardTestbed::on(pair, mode)?;
        let (plain, guarded) = (testbed.base.listen(family)?, testbed.base.listen(family)?);
        testbed.guard(guarded.port(), "on", &[])?;
        Ok(Self {
            testbed,
            family,
            plain,
            guarded,
        })
    }

    /// Sets the client's or the server's [`SETTINGS`] from the low bits of `settings`.
    fn configure(&self, server: bool, settings: u8) -> Result<()> {
        let pair = &self.testbed.base.pair;
        let host = if server { &pair.server } else { &pair.client };
        SETTINGS.iter().enumerate().try_for_each(|(bit, key)| {
            let value = if settings & 1 << bit == 0 { "0" } else { "1" };
            host.set_sysctl(key, value)
        })
    }

    fn connect(&self, listener: &Listener, method: Method) -> Result<Ends> {
        Ends::connect(&self.testbed.base.pair, listener, self.family, method)
    }

    /// Connects to both listeners, and compares the negotiated parameters.
    fn compare(&self, method: Method) -> Result<[Terms; 2]> {
        let without = self.connect(&self.plain, method)?.terms()?;
        let before = self.testbed.counters()?;
        let with = self.connect(&self.guarded, method)?.terms()?;
        let grown = grown(&before, &self.testbed.counters()?);
        ensure!(
            grown == [(GuardChallenged, 1), (GuardAccepted, 1)],
            "{grown:?}"
        );
        let [client, mut server] = without;
        if !server.timestamps {
            // Without timestamps, a challenge encodes a few segment sizes only.
            server.segment_size = rounded(server.segment_size, self.family);
        }
        ensure!(
            with == [client, server],
            "without {without:#?}\nwith {with:#?}"
        );
        Ok(with)
    }
}

fn rounded(size: u32, family: Family) -> u32 {
    let [v4, v6] = MSS_TABLE;
    let sizes = if family == Family::V4 { v4 } else { v6 };
    let sizes = sizes.map(u32::from);
    let fit = sizes.into_iter().filter(|known| *known <= size);
    fit.max().unwrap_or(size)
}

/// All combinations of timestamps, SACK, window scaling and ECN at both ends.
fn options(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        const ALL: u8 = 0xf;
        let comparison = Comparison::new(mode, family)?;
        for settings in 0..=ALL {
            for server in [false, true] {
                comparison.configure(server, settings)?;
                comparison.configure(!server, ALL)?;
                let ends = comparison.compare(Method::Plain).with_context(|| {
                    let end = if server { "server" } else { "client" };
                    format!("{family}: {settings:04b} at the {end}")
                })?;
                for end in ends {
                    let of_end = [end.timestamps, end.sack, end.scales.is_some(), end.ecn];
                    let expected = [1, 2, 4, 8].map(|bit| settings & bit != 0);
                    ensure!(of_end == expected, "{settings:04b}: {end:?}");
                }
            }
        }
    }
    Ok(())
}

/// MTUs from the family's minimum to jumbo frames, equal and different at the two ends.
fn segment_sizes(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        let comparison = Comparison::new(mode, family)?;
        let pair = &comparison.testbed.base.pair;
        let (smallest, headers) = match family {
            // The MTU of the smallest segment size, 536, for which the guard's kfunc opens a connection.
            Family::V4 => (576, 40),
            Family::V6 => (1280, 60),
        };
        // In descending order first: an MTU below 1280 removes IPv6 from the interface for good.
        for (client, server) in [
            (9000, 9000),
            (1500, 9000),
            (9000, 1500),
            (1500, 1500),
            (1492, 1500),
            (1400, 1500),
            (1280, 1280),
            (smallest, smallest),
        ] {
            for (netns, interface, mtu) in [
                (&pair.client, CLIENT_INTERFACE, client),
                (&pair.server, SERVER_INTERFACE, server),
            ] {
                netns.configure(&[format!("link set {interface} mtu {mtu}")])?;
            }
            pair.forget_cookies()?;
            for timestamps in ["1", "0"] {
                pair.client.set_sysctl(SETTINGS[0], timestamps)?;
                let [_, end] = comparison
                    .compare(Method::Plain)
                    .with_context(|| format!("{family}: MTU {client}, {server}"))?;
                let clocks = if end.timestamps { 12 } else { 0 };
                ensure!(end.advertised_size == server - headers - clocks, "{end:?}");
            }
        }
    }
    Ok(())
}

/// The ACK that answers the challenge carries data.
fn data_on_the_ack(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        let comparison = Comparison::new(mode, family)?;
        for _ in 0..10 {
            comparison.compare(Method::DataOnAck)?;
        }
    }
    Ok(())
}

/// A client that requests a cookie gets it with the challenge. The next SYN's data is accepted.
fn cookies(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        let comparison = Comparison::new(mode, family)?;
        let Comparison {
            testbed, guarded, ..
        } = &comparison;
        let pair = &testbed.base.pair;
        let before = (testbed.counters()?, testbed.base.kernel()?);
        testbed
            .base
            .request_cookie(guarded, family)
            .context("the request")?;
        keys::ensure_cached(pair, family, &keys::parse(keys::COUNTING)?[0])?;
        testbed
            .base
            .in_syn(guarded, family, Method::SendTo)
            .context("the cookie")?;
        let grown = grown(&before.0, &testbed.counters()?);
        let expected: &[(Counter, u64)] = &[
            (GuardProven, 1),
            (GuardChallenged, 1),
            (GuardCookies, 1),
            (GuardAccepted, 1),
        ];
        ensure!(grown == expected, "{grown:?}");
        let kernel = testbed.base.kernel()?.since(&before.1);
        // The kernel did not see the cookie request.
        let counted = [CookieReqd, Passive].map(|counter| kernel.get(counter.name()));
        ensure!(counted == [0, 1], "{kernel:?}");
    }
    Ok(())
}

in_each_mode! {
    options;
    segment_sizes;
    data_on_the_ack;
    cookies;
}
