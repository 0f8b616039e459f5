//! The edge of a split guard, which needs no kfunc. The hosts behind it take answers since Linux 6.9.

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::{GuardAccepted, GuardProven, GuardReferred};
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

/// The hosts of a load balancer that tunnels: the edge forwards by IPIP, and the hosts answer the client directly.
#[test]
fn an_edge_before_hosts_at_the_end_of_a_tunnel() -> Result<()> {
    /// The MTU of the tunnel, without the headers of IP and TCP and the timestamps.
    const SEGMENT: u32 = 1480 - 20 - 20 - 12;
    if is_before(6, 9)? {
        println!("skipped: this kernel takes no answers");
        return Ok(());
    }
    let farm = Farm::new(1, 1)?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    farm.share_key(keys::COUNTING)?;
    let ends = ["10.82.0.11", "10.82.0.21"];
    for (member, [local, remote]) in [(edge, ends), (host, [ends[1], ends[0]])] {
        let add = format!("link add tunnel type ipip local {local} remote {remote}");
        if let Err(error) = member.netns.configure(&[add]) {
            println!("skipped: no such devices: {error}");
            return Ok(());
        }
        member
            .netns
            .set_sysctl("net.ipv4.conf.tunnel.rp_filter", "0")?;
        member.netns.configure(&["link set tunnel up"])?;
    }
    edge.netns
        .configure(&[format!("route replace {} dev tunnel", Family::V4.vip())])?;
    host.tfo.done(&["attach", "tunnel", "--mode", "tc"])?;
    farm.guard_host(host, None)?;
    farm.guard_edges("tc")?;
    farm.serving(|| {
        // Without a packet before, the kernel has no next hop of the tunnel, and the first SYN passes.
        farm.ask(Family::V4, Method::Plain)?;
        farm.ask(Family::V4, Method::SendTo)?;
        let (connection, _) = farm.ask(Family::V4, Method::SendTo)?;
        ensure!(connection.info()?.syn_data_taken, "not in the SYN");
        let terms = farm.ask(Family::V4, Method::Plain)?.0.terms()?;
        ensure!(terms.segment_size == SEGMENT, "{terms:?}");
        // On a slow machine a SYN may be sent again, which the edge answers again.
        let (accepted, referred) = (host.count(GuardAccepted)?, edge.count(GuardReferred)?);
        ensure!(
            accepted == 2 && referred >= 2,
            "{accepted} of 2 opened, {referred} SYNs challenged: {:?}",
            edge.tfo.stats()?
        );
        let drift = host.tfo.stats()?.drift;
        ensure!(drift.values().all(|drift| *drift == 0), "{drift:?}");
        Ok(())
    })
}
