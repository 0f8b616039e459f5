//! A split guard whose edge runs on another kernel than the hosts: a router with two network devices, by which the answers
//! leave, too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter::{self, *},
    guard::SLOT_SHIFT,
};
use tfo_testbed::{
    guest::{Guest, Nic},
    keys,
    socket::Method,
    veth::Family,
};

use super::{doctor, ensure_counted, until_in_syn};
use crate::edge::farm::{FIRST_EDGE, FORWARDING, Farm, PORT, SECRET};

/// Half of a slot of challenges.
const HALF_A_SLOT: Duration = Duration::from_nanos(1 << (SLOT_SHIFT - 1));

/// Decides about the window scale.
const BUFFERS: &str = "net.ipv4.tcp_rmem";

const fn nic(name: &'static str, mac: &'static str) -> Nic<'static> {
    Nic {
        name,
        device: "virtio-net-pci",
        driver: "virtio_net",
        mac,
        queues: 1,
    }
}

/// A farm of one host, and its edge.
struct Split {
    edge: Guest,
    farm: Farm,
}

impl Split {
    fn new() -> Result<Self> {
        let farm = Farm::new(0, 1)?;
        farm.share_key(keys::COUNTING)?;
        // Another window scale than a guest has by default.
        farm.hosts[0]
            .netns
            .set_sysctl(BUFFERS, "4096 131072 33554432")?;
        farm.guard_hosts()?;
        let nics = [
            nic("front", "02:00:00:00:01:11"),
            nic("back", "02:00:00:00:02:11"),
        ];
        let edge = Guest::boot(&farm.switch, &nics)?;
        for (subnet, nic) in nics.iter().enumerate() {
            let (subnet, network) = (subnet + 1, nic.name);
            farm.switch
                .configure(&[format!("link set {} master {network}", nic.tap())])?;
            edge.configure(&[
                format!("addr add 10.8{subnet}.0.{FIRST_EDGE}/24 dev {network}"),
                format!("addr add fd8{subnet}::{FIRST_EDGE}/64 dev {network} nodad"),
            ])?;
        }
        for key in FORWARDING {
            edge.set_sysctl(key, "1")?;
        }
        edge.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        edge.configure(&farm.routes_of_edge())?;
        edge.done(&format!("umask 077 && printf {SECRET} > /run/guard.secret"))?;
        farm.route_by(&[FIRST_EDGE])?;
        farm.hosts[0].netns.configure(&[
            format!("route add 10.81.0.2 via 10.82.0.{FIRST_EDGE}"),
            format!("route add fd81::2 via fd82::{FIRST_EDGE}"),
        ])?;
        Ok(Self { edge, farm })
    }

    /// Has the edge challenge all that brings no valid cookie, and state these terms.
    fn guard(&self, terms: &str) -> Result<()> {
        let [v4, v6] = Family::BOTH.map(Family::vip);
        let vips = format!("--vip {v4} --vip {v6} --secret-file /run/guard.secret");
        self.edge
            .tfo_done(&format!("guard set on --port {PORT} {vips} {terms}"))
            .map(drop)
    }

    /// The window scale of the hosts, for the edge. With its own, which is another one, the edge's clients are reset.
    fn scale(&self) -> Result<String> {
        let host = &self.farm.hosts[0].tfo;
        let ours = host.json(&["guard", "show"])?["window_scale"].clone();
        self.edge.tfo_done("attach front --mode tc")?;
        self.guard("")?;
        let theirs = self.edge.tfo_json("guard show")?["window_scale"].clone();
        println!("window scales: {theirs} on the edge, {ours} on the host");
        ensure!(theirs != ours, "both sides have the window scale {ours}");
        let wrong_acks = self.host(GuardWrongAcks)?;
        let refused = self.farm.ask(Family::V4, Method::Plain);
        ensure!(refused.is_err(), "a connection in spite of the scale");
        ensure!(self.host(GuardWrongAcks)? > wrong_acks, "not counted");
        self.edge.tfo_done("detach --all")?;
        Ok(format!("--window-scale {ours}"))
    }

    fn host(&self, counter: Counter) -> Result<i64> {
        self.farm.hosts[0].count(counter)
    }

    /// What both sides have counted, and what they state.
    fn state(&self) -> String {
        let host = &self.farm.hosts[0].tfo;
        let of_host = [&["stats"][..], &["guard", "show"]].map(|command| host.run(command));
        let of_edge = ["stats", "guard show"].map(|command| self.edge.tfo(command));
        format!(
            "{of_host:#?}\n{of_edge:#?}\nthe edge is {:?} s ahead",
            self.ahead()
        )
    }

    /// By how many seconds the edge's clock is ahead.
    fn ahead(&self) -> Result<f64> {
        let there = self.edge.done("date +%s.%N")?.trim().parse::<f64>()?;
        let here = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(there - here.as_secs_f64())
    }

    /// Sets the edge's clock that far ahead of this machine's.
    fn set_clock(&self, ahead: f64) -> Result<()> {
        let here = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let there = here.as_secs_f64() + ahead;
        self.edge.done(&format!("date -s @{there}")).map(drop)
    }

    /// A client without a cookie, one that uses the cookie it got, and a plain one, in each family. On a slow machine a SYN may
    /// be sent again, which counts once more.
    fn check(&self, mode: &str) -> Result<()> {
        let counters = [GuardAccepted, GuardWrongAcks, GuardRefused, GuardChallenged];
        let of_host = || counters.into_iter().map(|counter| self.host(counter));
        let before = of_host().collect::<Result<Vec<_>>>()?;
        self.farm.client.netns.ip(&["tcp_metrics", "flush"])?;
        for family in Family::BOTH {
            let ask = |method| -> Result<bool> {
                let (connection, _) = self.farm.ask(family, method)?;
                Ok(connection.info()?.syn_data_taken)
            };
            let context = || format!("{mode}, {family}");
            ensure!(!ask(Method::SendTo).with_context(context)?);
            until_in_syn(|| ask(Method::SendTo)).with_context(context)?;
            ask(Method::Plain).with_context(context)?;
        }
        let least = [(GuardReferred, 4), (GuardCookies, 2), (GuardProven, 2)];
        ensure_counted(&self.edge, &least).with_context(|| mode.to_owned())?;
        let after = of_host().collect::<Result<Vec<_>>>()?;
        let grown: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        ensure!(
            grown[0] >= 4 && grown[1..] == [0; 3],
            "{mode}: {counters:?}: {grown:?}"
        );
        let drift = self.farm.hosts[0].tfo.stats()?.drift;
        ensure!(drift.values().all(|drift| *drift == 0), "{drift:?}");
        Ok(())
    }
}

/// Each mode that the edge's device takes; `tfo doctor` says so before.
#[test]
#[ignore = "it takes a guest: cargo xtask vm --edge"]
fn an_edge_of_another_kernel_challenges_for_hosts_of_this_one() -> Result<()> {
    let split = Split::new()?;
    let release = split.edge.done("uname -r")?;
    println!("the edge runs Linux {}", release.trim());
    split.farm.serving(|| {
        for family in Family::BOTH {
            split
                .farm
                .ask(family, Method::Plain)
                .with_context(|| format!("{family}, without a guard"))?;
        }
        ensure!(split.host(GuardAccepted)? == 0);
        let scale = split.scale()?;
        for mode in ["generic", "tc", "native"] {
            println!("{mode}: {}", doctor(&split.edge, "front")?);
            split
                .edge
                .tfo_done(&format!("attach front --mode {mode}"))?;
            split.guard(&scale)?;
            split.check(mode).with_context(|| split.state())?;
            split.edge.tfo_done("detach --all")?;
        }
        Ok(())
    })
}

/// A guest takes its clock from this machine's at its start. One that is wrong has the hosts reset the clients, and count it.
#[test]
#[ignore = "it takes a guest: cargo xtask vm --edge"]
fn an_edge_needs_the_hosts_clock() -> Result<()> {
    let split = Split::new()?;
    let ahead = split.ahead()?;
    println!("the edge's clock is {ahead:.3} s ahead");
    let half_a_slot = HALF_A_SLOT.as_secs_f64();
    ensure!(ahead.abs() < half_a_slot, "{ahead} s");
    // The other way to the same window scale.
    let buffers = split.farm.hosts[0].netns.sysctl(BUFFERS)?;
    split.edge.set_sysctl(BUFFERS, &buffers)?;
    split.edge.tfo_done("attach front --mode tc")?;
    split.farm.serving(|| {
        for wrong in [-6.0, 6.0].map(|slots| slots * half_a_slot) {
            let wrong_acks = split.host(GuardWrongAcks)?;
            split.set_clock(wrong)?;
            split.guard("")?;
            let refused = split.farm.ask(Family::V4, Method::Plain);
            ensure!(refused.is_err(), "{wrong} s ahead");
            ensure!(split.host(GuardWrongAcks)? > wrong_acks, "{wrong} s ahead");
            split.set_clock(0.0)?;
            split.guard("")?;
            for family in Family::BOTH {
                let asked = split.farm.ask(family, Method::Plain);
                asked.with_context(|| split.state())?;
            }
        }
        Ok(())
    })
}
