//! Every action on clients that know nothing of it: curl and Python, three connections each.

use anyhow::{Context as _, Result, ensure};
use tfo_common::policy::{Action, Class};
use tfo_tests::{
    bed::{Bed, Tally},
    clients,
    kernel::TcpExt,
    policy::{everywhere, rule},
    veth::{Family, Pair},
};

/// A request for a cookie, and twice the cookie.
fn check(family: Family, client: impl Fn(&Bed) -> Result<()>) -> Result<()> {
    for action in Action::ALL {
        let bed = Bed::attach(Pair::new()?, &[])?;
        bed.set_policy(Some(everywhere(rule(Class::Valid, action))))?;
        client(&bed).with_context(|| format!("{family}: {action:?}"))?;
        let (requests, passive, retransmitted) = match action {
            Action::Pass => (1, 2, 0),
            Action::Reissue => (3, 0, 0),
            Action::Fallback => (1, 0, 0),
            Action::Drop => (1, 0, 2),
        };
        bed.expect(Tally {
            requests,
            passive,
            ..Tally::default()
        })
        .with_context(|| format!("{family}: {action:?}"))?;
        let kernel = TcpExt::read(&bed.pair.client)?;
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
    let talk = |family| move |bed: &Bed| clients::python(&bed.pair, family);
    Family::BOTH
        .into_iter()
        .try_for_each(|family| check(family, talk(family)))
}

#[test]
fn curl() -> Result<()> {
    let ask = |family| move |bed: &Bed| clients::curl(&bed.pair, &bed.listen(family)?, family);
    Family::BOTH
        .into_iter()
        .try_for_each(|family| check(family, ask(family)))
}
