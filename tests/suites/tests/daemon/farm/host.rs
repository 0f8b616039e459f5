//! Hosts behind one address. The clients' kernel spreads connections over them by port (ECMP). Each host has its own
//! link to etcd, which can be cut while the host serves clients.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::Value;
use tfo_testbed::{
    kernel::TcpExt,
    keys,
    netns::{Netns, wait_until_up},
    poll,
    process::{Background, Output},
    prometheus::Scratch,
    tfo::{self, LIMIT, Tfo},
};

use super::etcd::Etcd;

/// The address and port of all hosts.
pub(crate) const FARM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1)), 8080);
/// Time limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const INTERFACE: &str = "server0";

/// The address of a client.
pub(crate) fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 200, number)
}

/// A host of the farm.
pub(crate) struct Host {
    pub(crate) name: String,
    number: u8,
    /// Seconds that its clock is ahead.
    offset: i64,
    config: String,
    pub(crate) run: Option<Background>,
    pub(crate) tfo: Tfo,
    pub(crate) netns: Netns,
}

impl Host {
    /// Starts the host's service.
    pub(crate) fn start(&mut self) -> Result<()> {
        let mut command = Command::new(tfo::binary());
        command
            .args(["run", "-c", &self.config, "--netns", self.netns.name()])
            .env("TFO_TEST_CLOCK_OFFSET", self.offset.to_string());
        self.run = Some(Background::start(&mut command)?);
        Ok(())
    }

    /// Kills the host's service. The data path stays attached, and the kernel keeps its keys.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        run.signal(Signal::KILL)?;
        run.wait(LIMIT).map(drop)
    }

    /// Stops the host's service. Returns its output.
    pub(crate) fn end(&mut self) -> Result<Output> {
        let run = self.run.take().context("the service does not run")?;
        // The process may be stopped by SIGSTOP.
        run.signal(Signal::CONT)?;
        run.terminate(LIMIT)
    }

    /// Sets the clock offset in seconds, from the next start on.
    pub(crate) const fn offset_is(&mut self, seconds: i64) {
        self.offset = seconds;
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.run
            .as_ref()
            .context("the service does not run")?
            .signal(signal)
    }

    /// The kernel's keys, in the sysctl's format.
    pub(crate) fn keys(&self) -> Result<String> {
        self.netns.sysctl(keys::SYSCTL)
    }

    /// The kernel's primary key.
    pub(crate) fn primary(&self) -> Result<String> {
        let keys = self.keys()?;
        Ok(keys.split(',').next().unwrap_or_default().to_owned())
    }

    /// Sets the link to etcd up or down.
    pub(crate) fn connect(&self, etcd: &Etcd, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        etcd.netns
            .configure(&[format!("link set m{} {state}", self.number)])
    }
}

/// A farm of hosts, their clients and etcd.
pub(crate) struct Farm {
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Netns,
    pub(crate) etcd: Etcd,
    pub(crate) scratch: Scratch,
    before: Vec<TcpExt>,
}

impl Farm {
    /// Makes `count` hosts, not started, with clocks off by up to 30 seconds, and an etcd without a document.
    /// `section` is added to the hosts' `[farm]` section.
    pub(crate) fn new(count: usize, interval: &str, section: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let etcd = Etcd::start(scratch.path(), "http", &[])?;
        let keys = format!("source = \"etcd\"\ninterval = \"{interval}\"");
        let seal = scratch.path().join("seal");
        keys::KeyFile::new(&"5c".repeat(32)).and_then(|file| {
            // The copy keeps the file's mode.
            fs::copy(file.path(), &seal)?;
            Ok(())
        })?;
        let config = |name: &str| {
            format!(
                "interfaces = [\"{INTERFACE}\"]\n[keys]\n{keys}\n[farm]\nendpoints = [\"{}\"]\nhost = \"{name}\"\n\
                 seal = \"{}\"\nstate = \"{}/state\"\n{section}\n",
                etcd.url(),
                seal.display(),
                scratch.path().display()
            )
        };
        Self::join(count, &scratch, Some(&etcd), &config).map(|(hosts, clients)| Self {
            hosts,
            clients,
            etcd,
            scratch,
            before: Vec::new(),
        })
    }

    /// Makes hosts with these configurations, and their clients.
    pub(crate) fn join(
        count: usize,
        scratch: &Scratch,
        etcd: Option<&Etcd>,
        config: &dyn Fn(&str) -> String,
    ) -> Result<(Vec<Host>, Netns)> {
        let clients = Netns::new("clients")?;
        clients.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        clients.set_sysctl("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "0")?;
        clients.set_sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
        let mut hosts = Vec::new();
        let count = count as u8;
        for number in 1..=count {
            let netns = Netns::new(&format!("web{number}"))?;
            connect(&netns, number, &clients, etcd)?;
            let name = format!("web-{number}");
            let path = scratch.path().join(format!("{name}.toml"));
            fs::write(&path, config(&name))?;
            // Offsets from -30 to +30 seconds.
            let offset = match number {
                1 => 0,
                2 => -30,
                3 => 30,
                number => 7 * i64::from(number) - 45,
            };
            hosts.push(Host {
                name,
                number,
                offset,
                config: path.display().to_string(),
                run: None,
                tfo: Tfo::new(&netns),
                netns,
            });
        }
        let hops = (1..=count).map(|number| format!("nexthop via 10.88.{number}.1"));
        let hops: Vec<_> = hops.collect();
        let mut commands = vec![format!("route add {} {}", FARM.ip(), hops.join(" "))];
        commands.extend((1..=32).map(|number| format!("addr add {}/32 dev lo", source(number))));
        clients.configure(&commands)?;
        Ok((hosts, clients))
    }

    /// Creates the farm's document, starts all hosts, and waits until all have joined.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.control(&["init"])?;
        for host in &mut self.hosts {
            host.start()?;
        }
        self.settle()?;
        self.forget_counts()
    }

    /// Resets the base of [`Self::count`].
    pub(crate) fn forget_counts(&mut self) -> Result<()> {
        let read = self.hosts.iter().map(|host| TcpExt::read(&host.netns));
        self.before = read.collect::<Result<_>>()?;
        Ok(())
    }

    /// Increase of a kernel counter, summed over all hosts.
    pub(crate) fn count(&self, counter: &str) -> Result<u64> {
        let mut sum = 0;
        for (host, before) in self.hosts.iter().zip(&self.before) {
            sum += TcpExt::read(&host.netns)?.since(before).get(counter);
        }
        Ok(sum)
    }

    /// Runs `tfo farm` in etcd's namespace.
    pub(crate) fn control(&self, arguments: &[&str]) -> Result<String> {
        let config = self.hosts[0].config.as_str();
        let farm = ["farm", "-c", config];
        Tfo::new(&self.etcd.netns).done(&[&farm, arguments].concat())
    }

    /// The output of `tfo farm status --json`, whatever its exit status.
    pub(crate) fn status(&self) -> Result<Value> {
        let config = self.hosts[0].config.as_str();
        let arguments = ["farm", "-c", config, "status", "--json"];
        let output = Tfo::new(&self.etcd.netns).run(&arguments)?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
    }

    /// The epoch of the document.
    pub(crate) fn epoch(&self) -> Result<u64> {
        let status = self.status()?;
        status["document"]["epoch"].as_u64().context("no epoch")
    }

    /// The index of the leader, if there is one.
    pub(crate) fn leader(&self) -> Result<Option<usize>> {
        let status = self.status()?;
        let hosts = status["hosts"].as_array().context("no hosts")?;
        let leader = hosts.iter().find(|host| host["leads"] == true);
        let name = leader.and_then(|host| host["name"].as_str());
        Ok(name.and_then(|name| self.hosts.iter().position(|host| host.name == name)))
    }

    /// Waits until all hosts have acknowledged the document and its phase is steady.
    pub(crate) fn settle(&self) -> Result<Value> {
        self.until("all hosts have acknowledged", |status| {
            let hosts = status["hosts"].as_array()?;
            let all = hosts.iter().all(|host| host["acknowledged"] == true);
            let steady = status["document"]["phase"] == "steady";
            (all && steady && hosts.len() == self.hosts.len()).then_some(())
        })
    }

    /// Waits until the farm's status satisfies `holds`. Returns that status.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Value) -> Option<()>) -> Result<Value> {
        let mut last = Value::Null;
        let held = poll::wait_for(what, PATIENCE, || {
            match self.status() {
                Ok(status) if holds(&status).is_some() => return Ok(Some(status)),
                Ok(status) => last = status,
                Err(error) => last = Value::String(format!("{error:#}")),
            }
            thread::sleep(Duration::from_millis(100));
            Ok(None)
        });
        held.with_context(|| format!("{last:#}"))
    }
}

/// Connects a host with the clients, and with etcd if there is one.
fn connect(netns: &Netns, number: u8, clients: &Netns, etcd: Option<&Etcd>) -> Result<()> {
    for (key, value) in [
        ("net.ipv4.tcp_fastopen", "3"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
    ] {
        netns.set_sysctl(key, value)?;
    }
    netns.configure(&[format!(
        "link add {INTERFACE} type veth peer name h{number} netns {}",
        clients.name()
    )])?;
    clients.configure(&[
        format!("addr add 10.88.{number}.254/24 dev h{number}"),
        format!("link set h{number} up"),
    ])?;
    netns.configure(&[
        format!("addr add 10.88.{number}.1/24 dev {INTERFACE}"),
        format!("link set {INTERFACE} up"),
        format!("addr add {}/32 dev lo", FARM.ip()),
        format!("route add 10.88.200.0/24 via 10.88.{number}.254"),
    ])?;
    wait_until_up(netns, INTERFACE)?;
    let Some(etcd) = etcd else { return Ok(()) };
    netns.configure(&[
        format!(
            "link add mgmt type veth peer name m{number} netns {}",
            etcd.netns.name()
        ),
        format!("addr add 10.99.0.{number}/24 dev mgmt"),
        "link set mgmt up".to_owned(),
    ])?;
    etcd.netns.configure(&[
        format!("link set m{number} master br0"),
        format!("link set m{number} up"),
    ])?;
    wait_until_up(netns, "mgmt")
}

/// Waits until `holds`. `what` names the condition in the error.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    poll::eventually(what, PATIENCE, holds)
}
