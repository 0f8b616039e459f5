//! A server that is guarded, and its client.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::{Counter, Counters};
use tfo_testbed::{
    process,
    socket::{Connection, Listener, Method, Terms},
    testbed::Testbed,
    tfo,
    veth::{CLIENT_INTERFACE, Family, Pair, server_port},
    xdp::{Mode, Other},
};
use tfo_userspace::{
    datapath::{Namespace, NamespaceError},
    model::PortState,
};

/// What no test exceeds without meaning to.
pub(crate) const PLENTY: &str = "1000000/s";

/// A wire, with `tfo` in XDP at the server's end.
pub(crate) struct GuardTestbed {
    pub(crate) base: Testbed,
    /// veth hands frames that native XDP sends back only to an end that has a program, too.
    _client: Option<Other>,
}

impl GuardTestbed {
    pub(crate) fn new(mode: Mode) -> Result<Self> {
        Self::on(Pair::new()?, mode)
    }

    pub(crate) fn on(pair: Pair, mode: Mode) -> Result<Self> {
        let native = mode == Mode::Native;
        let client = native.then(|| Other::attach(&pair.client, CLIENT_INTERFACE));
        let base = Testbed::attach(pair, &["--mode", &mode.to_string()])?;
        Ok(Self {
            base,
            _client: client.transpose()?,
        })
    }

    /// `tfo guard set` for this port, with rates that one client does not exceed; `rates` win.
    pub(crate) fn guard(&self, port: u16, mode: &str, rates: &[&str]) -> Result<()> {
        let port = port.to_string();
        let mut arguments = vec!["guard", "set", mode, "--port", &port];
        for rate in ["--replies", "--proven"] {
            if !rates.contains(&rate) {
                arguments.extend([rate, PLENTY]);
            }
        }
        arguments.extend(rates);
        self.base.tfo.done(&arguments).map(drop)
    }

    /// As [`Self::guard`], on, with slots of time of 2 to the power of `shift` nanoseconds.
    pub(crate) fn guard_with_slots(&self, port: u16, shift: Option<u32>) -> Result<()> {
        let server = &self.base.pair.server;
        let mut command = Command::new(tfo::binary());
        command.args(["guard", "set", "on", "--port", &port.to_string()]);
        command.args(["--replies", PLENTY, "--proven", PLENTY]);
        command.args(["--netns", server.name()]);
        command.envs(shift.map(|shift| ("TFO_TEST_GUARD_SLOT_SHIFT", shift.to_string())));
        process::succeed(&mut command, tfo::LIMIT).map(drop)
    }

    /// Waits until the port has been guarded for so long that the kernel's own SYN cookies are no excuse any more.
    pub(crate) fn past_grace(&self, port: u16) -> Result<()> {
        const GRACE: Duration = Duration::from_millis(3100);
        let since = self.state(port)?.since.context("it never was guarded")?;
        thread::sleep(GRACE.saturating_sub(since));
        Ok(())
    }

    /// What the data path has counted.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Ok(self.base.drift()?.ours.total)
    }

    /// What the guard does at the port.
    pub(crate) fn state(&self, port: u16) -> Result<PortState> {
        let server = &self.base.pair.server;
        let state =
            server.run(|| Ok::<_, NamespaceError>(Namespace::current()?.guard().state()?))?;
        let ports = state.context("no guard")?.ports;
        let found = ports.into_iter().find(|state| state.port == port);
        found.with_context(|| format!("no rule of port {port}"))
    }
}

/// By how much counters grew, of those that belong to the guard.
pub(crate) fn grown(before: &Counters, after: &Counters) -> Vec<(Counter, u64)> {
    let of = |counter| (counter, after.get(counter) - before.get(counter));
    let changes = Counter::GUARD.into_iter().map(of);
    changes.filter(|(_, count)| *count > 0).collect()
}

/// A connection from the client to `listener`, over which a request and its reply went.
pub(crate) struct Ends {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
}

impl Ends {
    pub(crate) fn connect(
        pair: &Pair,
        listener: &Listener,
        family: Family,
        method: Method,
    ) -> Result<Self> {
        const REQUEST: &[u8] = b"who goes there?";
        let server = server_port(family, listener.port());
        let client = Connection::open(&pair.client, server, method, REQUEST)?;
        let server = listener.accept()?;
        let came = server.receive()?;
        ensure!(came == REQUEST, "the server read {came:?}");
        server.send(b"a friend")?;
        let came = client.receive()?;
        ensure!(came == b"a friend", "the client read {came:?}");
        Ok(Self { client, server })
    }

    /// What the client's kernel and the server's say of it.
    pub(crate) fn terms(&self) -> Result<[Terms; 2]> {
        Ok([self.client.terms()?, self.server.terms()?])
    }
}
