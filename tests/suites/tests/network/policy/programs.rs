//! Every action with unmodified clients: curl and Python, three connections each.

use anyhow::{Context as _, Result, ensure};
use tfo_common::policy::{Action, Class};
use tfo_testbed::{
    clients,
    kernel::TcpExt,
    policy::{everywhere, rule},
    testbed::{Tally, Testbed},
    veth::{Family, Pair, server_port},
};

/// Connects three times: with a request, then twice with the cookie.
fn check(family: Family, client: impl Fn(&Testbed) -> Result<()>) -> Result<()> {
    for action in Action::ALL {
        let testbed = Testbed::attach(Pair::new()?, &[])?;
        testbed.set_policy(Some(everywhere(rule(Class::Valid, action))))?;
        client(&testbed).with_context(|| format!("{family}: {action:?}"))?;
        let (requests, passive, retransmitted) = match action {
            Action::Pass | Action::Once => (1, 2, 0),
            Action::Reissue => (3, 0, 0),
            Action::Fallback => (1, 0, 0),
            Action::Drop => (1, 0, 2),
        };
        testbed
            .expect(Tally {
                requests,
                passive,
                ..Tally::default()
            })
            .with_context(|| format!("{family}: {action:?}"))?;
        let kernel = TcpExt::read(&testbed.pair.client)?;
        ensure!(
            kernel.get("TCPSynRetrans") == retransmitted,
            "{family}: {action:?}: {:?}",
            kernel.nonzero().collect::<Vec<_>>()
        );
    }
    Ok(())
}

#[test]
fn python() -> Result<()> {
    let talk = |family| move |testbed: &Testbed| clients::python(&testbed.pair, family);
    Family::BOTH
        .into_iter()
        .try_for_each(|family| check(family, talk(family)))
}

#[test]
fn curl() -> Result<()> {
    let ask = |family| {
        move |testbed: &Testbed| {
            let listener = testbed.listen(family)?;
            let server = server_port(family, listener.port());
            clients::curl(&testbed.pair.client, server, &[&listener])
        }
    };
    Family::BOTH
        .into_iter()
        .try_for_each(|family| check(family, ask(family)))
}
