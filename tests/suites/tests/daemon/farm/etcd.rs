//! Debian's etcd in its own network namespace.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tfo_testbed::{
    http,
    netns::{self, Netns},
    poll::eventually,
    process::{self, Background},
    tfo::LIMIT,
};

/// etcd's address on the network that connects it with all hosts.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);
pub(crate) const PORT: u16 = 2379;

pub(crate) struct Etcd {
    pub(crate) netns: Netns,
    scheme: &'static str,
    arguments: Vec<String>,
    process: Option<Background>,
}

impl Etcd {
    /// Starts etcd with its data in `directory`, and `more` arguments.
    pub(crate) fn start(directory: &Path, scheme: &'static str, more: &[&str]) -> Result<Self> {
        let netns = Netns::new("etcd")?;
        netns.configure(&[
            "link add br0 type bridge",
            &format!("addr add {ADDRESS}/24 dev br0"),
            "link set br0 up",
        ])?;
        let url = format!("{scheme}://{ADDRESS}:{PORT}");
        let data = format!("--data-dir={}/etcd", directory.display());
        let mut arguments = vec![
            data,
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            // One member: the peer address is not used.
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ];
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        let mut etcd = Self {
            netns,
            scheme,
            arguments,
            process: None,
        };
        etcd.restart()?;
        Ok(etcd)
    }

    /// The client URL.
    pub(crate) fn url(&self) -> String {
        format!("{}://{ADDRESS}:{PORT}", self.scheme)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL)?;
            process.wait(LIMIT)?;
        }
        Ok(())
    }

    /// Restarts etcd with its data.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let mut command = self.netns.command("etcd");
        self.process = Some(Background::start(command.args(&self.arguments))?);
        netns::wait_for_listener(&self.netns, PORT)
    }

    /// Runs `etcdctl` and returns its output.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.netns.command("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.url()));
        process::succeed(command.args(arguments), LIMIT)
    }

    /// Writes a value, which may start with `-`.
    pub(crate) fn put(&self, key: &str, value: &str) -> Result<()> {
        self.ctl(&["put", "--", key, value]).map(drop)
    }

    /// Waits until etcd answers.
    pub(crate) fn wait(&self) -> Result<()> {
        let answers = || Ok(self.ctl(&["get", "x"]).is_ok());
        eventually("etcd answers", LIMIT, answers).map(drop)
    }

    /// etcd's own metrics, by series.
    pub(crate) fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let address = SocketAddr::new(IpAddr::V4(ADDRESS), PORT);
        let stream = http::connect(&self.netns, address)?;
        (&stream).write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let body = http::read_answer(stream)?.body;
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').context(line.to_owned())?;
            Ok((series.to_owned(), value.parse()?))
        });
        samples.collect()
    }
}
