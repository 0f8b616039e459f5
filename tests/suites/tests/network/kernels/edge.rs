//! The edge of a split guard, which needs no kfunc. The hosts behind it take answers since Linux 6.9.

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::{GuardProven, GuardReferred};
use tfo_testbed::{
    kernel::{feature, is_before},
    keys,
    socket::Method,
    veth::Family,
};

use crate::edge::farm::Farm;

#[test]
fn edges() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    farm.share_key(keys::COUNTING)?;
    let edge = &farm.edges[0];
    let takes_answers = !is_before(6, 9)?;
    if takes_answers {
        farm.guard_hosts()?;
    }
    farm.serving(|| {
        // The cookies, from the host itself.
        for family in Family::BOTH {
            farm.ask(family, Method::SendTo)?;
        }
        for mode in ["generic", "tc"] {
            farm.guard_edges(mode)?;
            for family in Family::BOTH {
                let context = || format!("{mode}, {family}");
                let (connection, _) = farm.ask(family, Method::SendTo).with_context(context)?;
                ensure!(connection.info()?.syn_data_taken, "{mode}, {family}");
                let plain = farm.ask(family, Method::Plain);
                ensure!(
                    plain.is_ok() == takes_answers,
                    "{mode}, {family}: {plain:?}"
                );
            }
            for counter in [GuardProven, GuardReferred] {
                let count = edge.count(counter)?;
                ensure!(count == 2, "{mode}: {}: {count}", counter.name());
            }
            edge.tfo.done(&["detach", "--all"])?;
        }
        Ok(())
    })?;
    feature("edge of a split guard", "yes");
    Ok(())
}
