//! A farm of an edge and the hosts behind it: clients reach the address of the hosts by the edge alone, and hosts answer them
//! directly.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tfo_common::counters::Counter;
use tfo_testbed::{
    answering::answering,
    keys::KeyFile,
    prometheus::METRICS,
    socket::{Connection, Listener, Method},
};

use super::host::{FARM, Farm, Host, eventually};

/// The number of the edge; the others are hosts.
pub(crate) const EDGE: usize = 0;
pub(crate) const HOSTS: [usize; 2] = [1, 2];
/// Pause between two connections of a client.
const REST: Duration = Duration::from_millis(5);

/// The service, as `tfo farm status` has it.
pub(crate) fn service() -> String {
    FARM.to_string()
}

pub(crate) struct Split {
    pub(crate) farm: Farm,
    secrets: [KeyFile; 2],
}

impl Split {
    /// Makes edge and hosts, not started, with clocks that agree and a guard in the configuration of each.
    pub(crate) fn new() -> Result<Self> {
        let mut farm = Farm::new(1 + HOSTS.len(), "24h", "")?;
        farm.hosts.iter_mut().for_each(|host| host.offset_is(0));
        let secrets = ["3c", "4d"].map(|byte| KeyFile::new(&byte.repeat(32)));
        let [first, other] = secrets;
        let split = Self {
            farm,
            secrets: [first?, other?],
        };
        split.connect()?;
        split.configure(EDGE, &split.edge())?;
        for host in HOSTS {
            split.configure(host, &split.host(0))?;
        }
        Ok(split)
    }

    /// Moves the hosts behind the edge.
    fn connect(&self) -> Result<()> {
        let Farm { hosts, clients, .. } = &self.farm;
        clients.set_sysctl("net.ipv4.conf.all.rp_filter", "0")?;
        for (number, host) in (1..).zip(hosts) {
            clients.set_sysctl(&format!("net.ipv4.conf.h{number}.rp_filter"), "0")?;
            host.netns.set_sysctl("net.ipv4.ip_forward", "1")?;
            // Window scale 7, whatever this machine has.
            let rmem = "4096 131072 6291456";
            host.netns.set_sysctl("net.ipv4.tcp_rmem", rmem)?;
        }
        clients.configure(&[
            "link set h1 address 02:00:00:00:00:fe".to_owned(),
            format!("route replace {} via 10.88.1.1", FARM.ip()),
        ])?;
        let edge = &hosts[EDGE].netns;
        edge.configure(&[
            format!("addr del {}/32 dev lo", FARM.ip()),
            "neigh replace 10.88.1.254 lladdr 02:00:00:00:00:fe dev server0 nud permanent"
                .to_owned(),
        ])?;
        for number in HOSTS {
            let host = &hosts[number].netns;
            host.configure(&[
                format!(
                    "link add back address 02:00:00:00:00:{number:02} type veth peer name back{number} netns {}",
                    edge.name()
                ),
                "link set back up".to_owned(),
                format!("addr add 10.87.{number}.2/24 dev back"),
                format!("route add 10.88.1.254 via 10.88.{}.254", number + 1),
            ])?;
            edge.configure(&[
                format!("link set back{number} up"),
                format!("addr add 10.87.{number}.1/24 dev back{number}"),
                format!(
                    "neigh replace 10.87.{number}.2 lladdr 02:00:00:00:00:{number:02} dev back{number} nud permanent"
                ),
            ])?;
        }
        self.route_to(HOSTS[0])
    }

    /// Has the edge send all connections to this host.
    pub(crate) fn route_to(&self, host: usize) -> Result<()> {
        let route = format!("route replace {} via 10.87.{host}.2", FARM.ip());
        self.farm.hosts[EDGE].netns.configure(&[route])
    }

    /// Changes a host's guard; reloads the configuration where its service runs.
    pub(crate) fn configure(&self, number: usize, guard: &str) -> Result<()> {
        let host = &self.farm.hosts[number];
        let path = self.farm.scratch.path().join(format!("{}.toml", host.name));
        let text = fs::read_to_string(&path)?;
        let before = text.split("[guard]").next().unwrap_or_default();
        let before = if before.starts_with("mode") {
            before.to_owned()
        } else {
            let behind = "[\"server0\", \"back\"]";
            let before = if number == EDGE {
                format!("{before}[metrics]\nlisten = \"{METRICS}\"\n")
            } else {
                before.replace("[\"server0\"]", behind)
            };
            format!("mode = \"tc\"\n{before}")
        };
        fs::write(&path, before + guard)?;
        match host.run {
            Some(_) => host.signal(Signal::HUP),
            None => Ok(()),
        }
    }

    /// The guard of the edge.
    pub(crate) fn edge(&self) -> String {
        format!(
            "[guard]\nsecret-file = \"{}\"\n[[guard.edge]]\nvip = \"{}\"\nport = {}\nmode = \"on\"\n",
            self.secrets[0].path(),
            FARM.ip(),
            FARM.port()
        )
    }

    /// The guard of a host with one of two secrets, of which the edge has the first.
    pub(crate) fn host(&self, secret: usize) -> String {
        format!(
            "[guard]\nsecret-file = \"{}\"\n[guard.port.{}]\nmode = \"off\"\n",
            self.secrets[secret].path(),
            FARM.port()
        )
    }

    pub(crate) fn edge_host(&self) -> &Host {
        &self.farm.hosts[EDGE]
    }

    /// Waits until the edge's log has `text`.
    pub(crate) fn until_logged(&self, text: &str) -> Result<()> {
        let run = self
            .edge_host()
            .run
            .as_ref()
            .context("the edge does not run")?;
        let logged = || run.written().iter().any(|written| written.contains(text));
        eventually(text, || Ok(logged())).map(drop)
    }

    /// The mode that the edge has in force for the service.
    pub(crate) fn mode(&self) -> Result<Value> {
        let shown = self.edge_host().tfo.json(&["guard", "show"])?;
        let mut ports = shown["ports"].as_array().into_iter().flatten();
        let port = ports.find(|port| port["vip"].is_string());
        Ok(port.context(shown.to_string())?["mode"].clone())
    }

    /// Waits until the edge has this mode in force. Gives the time it took.
    pub(crate) fn until_mode(&self, mode: &str) -> Result<Duration> {
        let what = format!("the edge has mode {mode} in force");
        eventually(&what, || Ok(self.mode()? == mode))
    }

    /// The verdict about the service, as `tfo farm status` has it.
    pub(crate) fn verdict(status: &Value) -> &Value {
        &status["hosts"][EDGE]["edges"][service()]
    }

    /// Waits until `tfo farm status` has a verdict for which `holds`.
    pub(crate) fn until_verdict(
        &self,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        self.farm
            .until(what, |status| holds(Self::verdict(status)).then_some(()))
    }

    /// A counter of the edge, and one of all hosts.
    pub(crate) fn counts(&self, of_edge: Counter, of_hosts: Counter) -> Result<(i64, i64)> {
        let of = |host: &Host, counter: Counter| {
            Ok::<_, anyhow::Error>(host.tfo.stats()?.counters[counter.name()])
        };
        let hosts = &self.farm.hosts[1..];
        let hosts = hosts.iter().map(|host| of(host, of_hosts));
        Ok((of(self.edge_host(), of_edge)?, hosts.sum::<Result<_>>()?))
    }

    /// Connects without Fast Open. Gives the connection and the host that answered.
    pub(crate) fn ask(&self) -> Result<(Connection, String)> {
        let connection = Connection::open(&self.farm.clients, FARM, Method::Plain, b"who?")?;
        let answer = connection.receive()?;
        ensure!(!answer.is_empty(), "the connection ended without an answer");
        Ok((connection, String::from_utf8(answer)?))
    }

    /// Connects `count` times; how many challenges of the edge were answered at hosts.
    pub(crate) fn challenged(&self, count: usize) -> Result<i64> {
        let read = || self.counts(Counter::GuardReferred, Counter::GuardAccepted);
        let before = read()?;
        for _ in 0..count {
            self.ask()?;
        }
        let now = read()?;
        let [referred, accepted] = [now.0 - before.0, now.1 - before.1];
        ensure!(
            referred == accepted,
            "{referred} challenged, {accepted} accepted"
        );
        Ok(referred)
    }

    /// Runs `work` while each host answers every request with its name.
    pub(crate) fn serving<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let listen = |number: &usize| {
            let host = &self.farm.hosts[*number];
            Ok((host.name.clone(), Listener::plain(&host.netns, FARM)?))
        };
        let listeners: Vec<_> = HOSTS.iter().map(listen).collect::<Result<_>>()?;
        answering(listeners, work)
    }

    /// Runs `work` while a client connects again and again, each time with success. Gives the number of connections.
    pub(crate) fn connecting(&self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let (ended, count) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    self.ask()
                        .with_context(|| format!("connection {count:?}"))?;
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(REST);
                }
                Ok::<_, anyhow::Error>(())
            });
            let some = || {
                let before = count.load(Ordering::Relaxed);
                eventually("the client connects", || {
                    let enough = count.load(Ordering::Relaxed) >= before + 10;
                    Ok(enough || client.is_finished())
                })
            };
            let done = some().and_then(|_| work()).and_then(|()| some());
            ended.store(true, Ordering::Relaxed);
            client.join().expect("the client panicked")?;
            done.map(|_| count.load(Ordering::Relaxed))
        })
    }
}
