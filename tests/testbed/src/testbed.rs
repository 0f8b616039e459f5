//! A server with the accelerator on its interface, and the question whether both count alike.

use std::{
    fmt,
    net::SocketAddr,
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_common::counters::Counter;

use crate::{
    kernel::TcpExt,
    socket::{Connection, Listener, Method},
    tfo::{Named, Stats, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

/// What the mirrored counters have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// `TCPFastOpenCookieReqd`.
    pub requests: i64,
    /// `TCPFastOpenPassive`.
    pub passive: i64,
    /// `TCPFastOpenPassiveFail`.
    pub failed: i64,
    /// `TCPFastOpenPassiveAltKey`.
    pub alt_key: i64,
    /// `TCPFastOpenListenOverflow`.
    pub overflows: i64,
}

impl Tally {
    /// Takes the value of every mirrored counter from `value`.
    pub fn of(value: impl Fn(&str) -> i64) -> Self {
        let value = |counter: Counter| value(counter.name());
        Self {
            requests: value(Counter::CookieReqd),
            passive: value(Counter::Passive),
            failed: value(Counter::PassiveFail),
            alt_key: value(Counter::PassiveAltKey),
            overflows: value(Counter::ListenOverflow),
        }
    }
}

impl Tally {
    /// How much each grew since `before`.
    #[must_use]
    pub const fn less(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            passive: self.passive - before.passive,
            failed: self.failed - before.failed,
            alt_key: self.alt_key - before.alt_key,
            overflows: self.overflows - before.overflows,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CookieReqd {} Passive {} PassiveFail {} PassiveAltKey {} ListenOverflow {}",
            self.requests, self.passive, self.failed, self.alt_key, self.overflows
        )
    }
}

/// A wire, with `tfo` at the server's end.
#[derive(Debug)]
pub struct Testbed {
    /// Detaches on drop, while the namespaces are still there.
    pub tfo: Tfo,
    /// The wire and both hosts.
    pub pair: Pair,
    /// What the server's kernel had counted before `tfo` was attached.
    before: TcpExt,
}

impl Testbed {
    /// Makes a wire and attaches `tfo` to the server's interface, as it attaches by default.
    ///
    /// # Errors
    ///
    /// Where either fails.
    pub fn new() -> Result<Self> {
        Self::attach(Pair::new()?, &[])
    }

    /// Attaches `tfo` to the server's interface, with these arguments more.
    ///
    /// # Errors
    ///
    /// Where it fails.
    pub fn attach(pair: Pair, arguments: &[&str]) -> Result<Self> {
        let testbed = Self::idle(pair)?;
        testbed
            .tfo
            .done(&[&["attach", SERVER_INTERFACE], arguments].concat())?;
        Ok(testbed)
    }

    /// A wire with a `tfo` that is attached to nothing yet.
    ///
    /// # Errors
    ///
    /// Where the kernel's counters cannot be read.
    pub fn idle(pair: Pair) -> Result<Self> {
        Ok(Self {
            tfo: Tfo::new(&pair.server),
            before: TcpExt::read(&pair.server)?,
            pair,
        })
    }

    /// What the server's kernel has counted since `tfo` was attached, by its own file.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn kernel(&self) -> Result<TcpExt> {
        Ok(TcpExt::read(&self.pair.server)?.since(&self.before))
    }

    /// What `tfo` has counted, after making sure that every mirrored counter equals the kernel's.
    ///
    /// # Errors
    ///
    /// Where one does not, with the figures.
    pub fn equal(&self) -> Result<Stats> {
        let (stats, [ours, told, own, drift]) = self.compare()?;
        ensure!(
            ours == own && told == own && drift == Tally::default(),
            "tfo        {ours}\nits kernel {told}\nthe kernel {own}\ndrift      {drift}"
        );
        Ok(stats)
    }

    /// What `tfo` has counted, and all mirrored counters: as `tfo` counted them, as `tfo` says that
    /// the kernel did, as the kernel's own file says, and how far apart they are according to `tfo`.
    ///
    /// # Errors
    ///
    /// Where one cannot be read.
    pub fn compare(&self) -> Result<(Stats, [Tally; 4])> {
        let stats = self.tfo.stats()?;
        let kernel = self.kernel()?;
        let of = |named: &Named| Tally::of(|name| named.get(name).copied().unwrap_or(-1));
        let tallies = [
            of(&stats.counters),
            of(&stats.kernel),
            Tally::of(|name| kernel.get(name).cast_signed()),
            of(&stats.drift),
        ];
        Ok((stats, tallies))
    }

    /// Makes sure that `tfo` and the kernel both came to `expected`.
    ///
    /// # Errors
    ///
    /// Where one did not, with the figures.
    pub fn expect(&self, expected: Tally) -> Result<Stats> {
        let stats = self.equal()?;
        let tally = Tally::of(|name| stats.counters.get(name).copied().unwrap_or(-1));
        ensure!(
            tally == expected,
            "expected {expected}\n     got {tally}\n     all {:?}",
            stats.counters
        );
        Ok(stats)
    }

    /// Forgets what the kernel has counted so far, as `tfo` does when it is attached.
    ///
    /// # Errors
    ///
    /// Where the kernel's counters cannot be read.
    pub fn restart(&mut self) -> Result<()> {
        self.before = TcpExt::read(&self.pair.server)?;
        Ok(())
    }

    /// A listener of the server with Fast Open, on every address of a family.
    ///
    /// # Errors
    ///
    /// As [`Listener::fast_open`].
    pub fn listen(&self, family: Family) -> Result<Listener> {
        let address = SocketAddr::new(family.unspecified(), 0);
        Listener::fast_open(&self.pair.server, address)
    }

    /// One connection of the client; see [`exchange`].
    ///
    /// # Errors
    ///
    /// As [`exchange`].
    pub fn exchange(
        &self,
        listener: &Listener,
        family: Family,
        method: Method,
    ) -> Result<Exchange> {
        exchange(&self.pair, listener, family, method)
    }

    /// As [`Testbed::exchange`], with the request in the SYN.
    ///
    /// # Errors
    ///
    /// As [`exchange`], and where the request did not come in the SYN, with the figures.
    pub fn in_syn(&self, listener: &Listener, family: Family, method: Method) -> Result<()> {
        let exchange = self.exchange(listener, family, method)?;
        ensure!(
            exchange.in_syn,
            "not in the SYN: {}",
            self.figures(exchange)?
        );
        Ok(())
    }

    /// As [`Testbed::exchange`], with the request after the handshake.
    ///
    /// # Errors
    ///
    /// As [`exchange`], and where the request came in the SYN, with the figures.
    pub fn after_handshake(
        &self,
        listener: &Listener,
        family: Family,
        method: Method,
    ) -> Result<()> {
        let exchange = self.exchange(listener, family, method)?;
        ensure!(!exchange.in_syn, "in the SYN: {}", self.figures(exchange)?);
        Ok(())
    }

    /// What may tell why a connection did not go as expected.
    fn figures(&self, exchange: Exchange) -> Result<String> {
        let client = TcpExt::read(&self.pair.client)?;
        Ok(format!(
            "{exchange:?}\nclient {:?}\nserver {:?}",
            client.nonzero().collect::<Vec<_>>(),
            self.kernel()?.nonzero().collect::<Vec<_>>()
        ))
    }
}

/// What a client sends in an [`exchange`].
pub const REQUEST: &[u8] = b"what is the time?";

/// How a request and its reply went.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The request went in the SYN, and both ends say that it was taken from there.
    pub in_syn: bool,
    /// The server had read the request before the client ended the handshake. That it had not proves
    /// nothing where the wire is short.
    pub before_handshake: bool,
    /// From the client's first call until it had the reply.
    pub took: Duration,
}

/// Connects the client to `listener`, sends a request, and sends it back as the reply.
///
/// When it returns, both ends are closed and no frame is on its way that would be counted.
///
/// # Errors
///
/// Where a step fails, or the ends disagree.
pub fn exchange(
    pair: &Pair,
    listener: &Listener,
    family: Family,
    method: Method,
) -> Result<Exchange> {
    let server = server_port(family, listener.port());
    let (accepted, client) = thread::scope(|scope| {
        let server_side = scope.spawn(|| -> Result<_> {
            let accepted = listener.accept()?;
            let request = accepted.receive()?;
            let before_handshake = accepted.info()?.handshake_open;
            ensure!(request == REQUEST, "the server read {request:?}");
            accepted.send(&request)?;
            ensure!(accepted.receive()?.is_empty(), "more than one request");
            Ok((accepted.info()?.syn_data_taken, before_handshake))
        });
        let client_side = || -> Result<_> {
            let start = Instant::now();
            let client = Connection::open(&pair.client, server, method, REQUEST)?;
            let reply = client.receive()?;
            let took = start.elapsed();
            ensure!(reply == REQUEST, "the client read {reply:?}");
            client.finish()?;
            ensure!(client.receive()?.is_empty(), "more than one reply");
            Ok((client.info()?.syn_data_taken, took))
        };
        let client = client_side();
        (server_side.join(), client)
    });
    let (in_syn, took) = client?;
    let (taken, before_handshake) = accepted.unwrap_or_else(|panic| resume_unwind(panic))?;
    ensure!(
        in_syn == taken,
        "data taken from the SYN: {in_syn} by the client, {taken} by the server"
    );
    Ok(Exchange {
        in_syn,
        before_handshake,
        took,
    })
}
