//! The guard's program in traffic control beside those of others.

use anyhow::{Context as _, Result, ensure};
use aya::{
    EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use tfo_common::abi::TC_PROGRAM;
use tfo_testbed::{testbed::Testbed, veth::SERVER_INTERFACE, xdp::Mode};
use tfo_userspace::datapath::OBJECT;

use super::{fitness::finding, testbed::GuardTestbed};

/// Another program that comes first is a problem, which `tfo guard set` resolves; the guard's own program is no other.
#[test]
fn another_program_before_the_guards_is_a_problem() -> Result<()> {
    const CHECK: &str = "guard and TCX";
    let testbed = GuardTestbed::new(Mode::Generic)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    tfo.done(&["guard", "set", "on"])?;
    ensure!(finding(tfo, "other programs")?.is_none());
    ensure!(finding(tfo, CHECK)?.is_none());

    let mut object = EbpfLoader::new().load(OBJECT)?;
    let program = object.program_mut(TC_PROGRAM).context("no program")?;
    let other: &mut SchedClassifier = program.try_into()?;
    other.load()?;
    let id = other.info()?.id();
    pair.server.run(|| {
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let attached = other.attach_with_options(SERVER_INTERFACE, TcAttachType::Ingress, first);
        attached.map(drop)
    })?;
    let found = finding(tfo, CHECK)?.context("no finding")?;
    let named = found["found"].to_string().contains(&format!("(id {id})"));
    ensure!(found["verdict"] == "problem" && named, "{found:#}");
    ensure!(
        found["remedy"].to_string().contains("tfo guard set"),
        "{found:#}"
    );
    let others = finding(tfo, "other programs")?.context("no finding")?;
    let others = others["found"].to_string();
    ensure!(others.matches("TCX program").count() == 1, "{others}");
    ensure!(others.contains(&format!("TCX program {id}")), "{others}");

    tfo.done(&["guard", "set"])?;
    ensure!(finding(tfo, CHECK)?.is_none());
    let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
    let (_, programs) = pair.server.run(query)?;
    let ids: Vec<_> = programs
        .iter()
        .map(aya::programs::ProgramInfo::id)
        .collect();
    // In traffic control, the entry program is the last one.
    ensure!(ids.get(1) == Some(&id), "{ids:?}, the other is {id}");
    Ok(())
}
