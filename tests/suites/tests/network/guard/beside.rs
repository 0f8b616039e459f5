//! The guard's program in traffic control beside those of others.

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use tfo_common::abi::TC_PROGRAM;
use tfo_testbed::{
    netns::Netns,
    socket::Method,
    testbed::Testbed,
    veth::{Family, SERVER_INTERFACE},
    xdp::Mode,
};
use tfo_userspace::datapath::OBJECT;

use super::{
    fitness::finding,
    testbed::{GuardTestbed, in_each_mode},
};

/// Another's program in TCX, which lets packets on: a second copy of the data path. Detached on drop.
struct Other(Ebpf);

impl Other {
    fn attach(netns: &Netns, order: LinkOrder) -> Result<Self> {
        let mut other = Self(Ebpf::load(OBJECT)?);
        let program = other.program()?;
        program.load()?;
        netns.run(|| {
            let order = TcAttachOptions::TcxOrder(order);
            let ingress = TcAttachType::Ingress;
            let attached = program.attach_with_options(SERVER_INTERFACE, ingress, order);
            attached.map(drop)
        })?;
        Ok(other)
    }

    fn id(&mut self) -> Result<u32> {
        Ok(self.program()?.info()?.id())
    }

    fn program(&mut self) -> Result<&mut SchedClassifier> {
        let program = self.0.program_mut(TC_PROGRAM).context("no program")?;
        Ok(program.try_into()?)
    }
}

/// The ids of the programs in TCX, in their order.
fn programs(netns: &Netns) -> Result<Vec<u32>> {
    let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
    let (_, programs) = netns.run(query)?;
    Ok(programs
        .iter()
        .map(aya::programs::ProgramInfo::id)
        .collect())
}

/// Programs that let packets on, one before all of ours and one behind them: mirror and guard notice nothing.
fn programs_before_and_after_ours_are_no_obstacle(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    tfo.done(&["guard", "set", "on"])?;
    let mut first = Other::attach(&pair.server, LinkOrder::first())?;
    let mut last = Other::attach(&pair.server, LinkOrder::last())?;
    let ids = programs(&pair.server)?;
    let ends = [ids.first(), ids.last()];
    ensure!(ends == [Some(&first.id()?), Some(&last.id()?)], "{ids:?}");
    for family in Family::BOTH {
        let listener = testbed.base.listen(family)?;
        testbed
            .base
            .after_handshake(&listener, family, Method::Plain)?;
        testbed.base.request_cookie(&listener, family)?;
        testbed.base.in_syn(&listener, family, Method::SendTo)?;
    }
    let counted = testbed.base.equal()?.counters;
    let guarded =
        ["GuardChallenged", "GuardAccepted", "GuardProven"].map(|counter| counted[counter]);
    ensure!(guarded == [4, 4, 2], "{counted:?}");
    Ok(())
}

/// Another program that comes first is a problem, which `tfo guard set` resolves; the guard's own program is no other.
fn another_program_before_the_guards_is_a_problem(mode: Mode) -> Result<()> {
    const CHECK: &str = "guard and TCX";
    let testbed = GuardTestbed::new(mode)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    tfo.done(&["guard", "set", "on"])?;
    ensure!(finding(tfo, "other programs")?.is_none());
    ensure!(finding(tfo, CHECK)?.is_none());

    let mut other = Other::attach(&pair.server, LinkOrder::first())?;
    let id = other.id()?;
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
    let ids = programs(&pair.server)?;
    // In traffic control, the entry program is the last one.
    ensure!(ids.get(1) == Some(&id), "{ids:?}, the other is {id}");
    Ok(())
}

in_each_mode! {
    another_program_before_the_guards_is_a_problem;
    programs_before_and_after_ours_are_no_obstacle;
}
