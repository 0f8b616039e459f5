//! Listeners that accept data without a cookie: rewriting the option cannot keep the data out, and is not done.

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter,
    policy::{Action, Class},
};
use tfo_testbed::{
    policy::{everywhere, rule},
    socket::{Listener, Settings},
    veth::Family,
};
use tfo_userspace::model::PortPolicy;

use super::testbed::{Has, PolicyTestbed};

/// The sysctl `net.ipv4.tcp_fastopen`, or the socket option `TCP_FASTOPEN_NO_COOKIE`.
#[derive(Clone, Copy, Debug)]
enum By {
    Host,
    Socket,
}

impl By {
    /// Makes the server accept data without a cookie, or not.
    fn set(self, testbed: &mut PolicyTestbed, family: Family, on: bool) -> Result<()> {
        match self {
            Self::Host => {
                let bits = if on { "515" } else { "3" };
                testbed
                    .base
                    .pair
                    .server
                    .set_sysctl("net.ipv4.tcp_fastopen", bits)
            }
            Self::Socket => {
                let settings = Settings {
                    no_cookie: on,
                    ..Settings::FAST_OPEN
                };
                let address = std::net::SocketAddr::new(family.unspecified(), 0);
                testbed.listener = Listener::with(&testbed.base.pair.server, address, &settings)?;
                Ok(())
            }
        }
    }
}

fn check(by: By, mode: &str, family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::new(mode, family)?;
    for has in [Has::Valid, Has::Stale] {
        for action in [Action::Reissue, Action::Fallback] {
            for instead in [Action::Pass, Action::Drop] {
                by.set(&mut testbed, family, false)?;
                testbed.prepare(has)?;
                by.set(&mut testbed, family, true)?;
                testbed.base.set_policy(Some(everywhere(PortPolicy {
                    no_cookie: instead,
                    ..rule(has.class(), action)
                })))?;
                let came = testbed.connect()?;
                let drop = instead == Action::Drop;
                let counted = if drop {
                    vec![(Counter::PolicyDrop, 1), (Counter::PolicyRule, 1)]
                } else {
                    vec![(Counter::PolicyUnfit, 1)]
                };
                ensure!(
                    came.exchange.in_syn != drop
                        && came.policy == counted
                        && came.retransmitted == u64::from(drop)
                        && came.tally.passive == i64::from(!drop),
                    "{by:?}, {mode}, {family}: {action:?} of {has:?}, else {instead:?}: {came:?}"
                );
            }
        }
    }
    Ok(())
}

/// The client sends data without a Fast Open option.
fn data_alone(by: By, mode: &str, family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::new(mode, family)?;
    by.set(&mut testbed, family, true)?;
    let client = &testbed.base.pair.client;
    client.set_sysctl("net.ipv4.tcp_fastopen", "5")?;
    for action in [Action::Pass, Action::Drop] {
        let policy = everywhere(rule(Class::Data, action));
        testbed.base.set_policy(Some(policy))?;
        let came = testbed.connect().with_context(|| format!("{action:?}"))?;
        ensure!(
            came.exchange.in_syn == (action == Action::Pass)
                && came.retransmitted == u64::from(action == Action::Drop),
            "{by:?}, {mode}, {family}: {action:?}: {came:?}"
        );
    }
    Ok(())
}

fn both(by: By) -> Result<()> {
    for (mode, family) in [("native", Family::V4), ("tc", Family::V6)] {
        check(by, mode, family)?;
        data_alone(by, mode, family)?;
    }
    Ok(())
}

#[test]
fn of_the_host() -> Result<()> {
    both(By::Host)
}

#[test]
fn of_the_socket() -> Result<()> {
    both(By::Socket)
}
