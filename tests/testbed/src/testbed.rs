//! A client and a server with `tfo` attached, and comparisons of its counters with the kernel's.

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

/// Values of the mirrored counters, or differences of them.
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
    /// Calls `value` with the name of every mirrored counter.
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
    /// `self - before`, for each counter.
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

/// A [`Pair`] with `tfo` on the server's interface.
#[derive(Debug)]
pub struct Testbed {
    /// Declared first: detaches on drop, before the namespaces are removed.
    pub tfo: Tfo,
    /// Client and server.
    pub pair: Pair,
    /// The kernel's counters before `tfo` was attached.
    before: TcpExt,
}

impl Testbed {
    /// Creates a [`Pair`] and attaches `tfo` to the server's interface with its defaults.
    ///
    /// # Errors
    ///
    /// As [`Pair::new`], or `tfo attach` fails.
    pub fn new() -> Result<Self> {
        Self::attach(Pair::new()?, &[])
    }

    /// Attaches `tfo` to the server's interface, with additional `arguments`.
    ///
    /// # Errors
    ///
    /// `tfo attach` fails, or the kernel's counters cannot be read.
    pub fn attach(pair: Pair, arguments: &[&str]) -> Result<Self> {
        let testbed = Self::idle(pair)?;
        testbed
            .tfo
            .done(&[&["attach", SERVER_INTERFACE], arguments].concat())?;
        Ok(testbed)
    }

    /// A testbed with `tfo` not attached.
    ///
    /// # Errors
    ///
    /// The kernel's counters cannot be read.
    pub fn idle(pair: Pair) -> Result<Self> {
        Ok(Self {
            tfo: Tfo::new(&pair.server),
            before: TcpExt::read(&pair.server)?,
            pair,
        })
    }

    /// The server's kernel counters since `tfo` was attached, from `/proc/net/netstat`.
    ///
    /// # Errors
    ///
    /// As [`TcpExt::read`].
    pub fn kernel(&self) -> Result<TcpExt> {
        Ok(TcpExt::read(&self.pair.server)?.since(&self.before))
    }

    /// Checks that every mirrored counter of `tfo` equals the kernel's. Returns the statistics of `tfo`.
    ///
    /// # Errors
    ///
    /// A counter differs; the error contains the values.
    pub fn equal(&self) -> Result<Stats> {
        let (stats, [ours, told, own, drift]) = self.compare()?;
        ensure!(
            ours == own && told == own && drift == Tally::default(),
            "tfo        {ours}\nits kernel {told}\nthe kernel {own}\ndrift      {drift}"
        );
        Ok(stats)
    }

    /// The statistics of `tfo`, and four tallies: counters of `tfo`, the kernel's counters according to `tfo`, the
    /// kernel's counters from `/proc/net/netstat`, and the drift according to `tfo`.
    ///
    /// # Errors
    ///
    /// `tfo stats` fails, or the kernel's counters cannot be read.
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

    /// Checks that the counters of `tfo` and of the kernel are `expected`.
    ///
    /// # Errors
    ///
    /// A counter differs; the error contains the values.
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

    /// Takes the kernel's current counters as the new start, as `tfo attach` does.
    ///
    /// # Errors
    ///
    /// The kernel's counters cannot be read.
    pub fn restart(&mut self) -> Result<()> {
        self.before = TcpExt::read(&self.pair.server)?;
        Ok(())
    }

    /// A Fast Open listener of the server, on the family's unspecified address and a free port.
    ///
    /// # Errors
    ///
    /// As [`Listener::fast_open`].
    pub fn listen(&self, family: Family) -> Result<Listener> {
        let address = SocketAddr::new(family.unspecified(), 0);
        Listener::fast_open(&self.pair.server, address)
    }

    /// As the function [`exchange`].
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

    /// As the function [`request_cookie`].
    ///
    /// # Errors
    ///
    /// As [`request_cookie`].
    pub fn request_cookie(&self, listener: &Listener, family: Family) -> Result<()> {
        request_cookie(&self.pair, listener, family)
    }

    /// As [`Testbed::exchange`]; the client must have a cookie, and the request must be in the SYN.
    ///
    /// # Errors
    ///
    /// As [`exchange`]; the client has no cookie; or the request was not in the SYN: the error contains the counters.
    pub fn in_syn(&self, listener: &Listener, family: Family, method: Method) -> Result<()> {
        self.pair.ensure_cookie(family)?;
        let exchange = self.exchange(listener, family, method)?;
        ensure!(
            exchange.in_syn,
            "not in the SYN: {}",
            self.figures(exchange)?
        );
        Ok(())
    }

    /// As [`Testbed::exchange`]; the request must follow the handshake.
    ///
    /// # Errors
    ///
    /// As [`exchange`], or the request was in the SYN: the error contains the counters.
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

    /// The exchange and the counters of both kernels, for an error.
    fn figures(&self, exchange: Exchange) -> Result<String> {
        let client = TcpExt::read(&self.pair.client)?;
        Ok(format!(
            "{exchange:?}\nclient {:?}\nserver {:?}",
            client.nonzero().collect::<Vec<_>>(),
            self.kernel()?.nonzero().collect::<Vec<_>>()
        ))
    }
}

/// Request of an [`exchange`].
pub const REQUEST: &[u8] = b"what is the time?";

/// Result of [`exchange`].
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// `TCPI_OPT_SYN_DATA` at both ends: the request was in the SYN and was accepted.
    pub in_syn: bool,
    /// The server read the request in the state `SYN_RECV`. `false` proves nothing without a delay line: the ACK may
    /// have arrived first.
    pub before_handshake: bool,
    /// Time from the client's first call to the reply.
    pub took: Duration,
}

/// Obtains a cookie for the client by up to five connections, and checks that its kernel caches the cookie.
///
/// One connection is enough unless the machine stalls for a second: the kernel retransmits the SYN without the option
/// (`tcp_retransmit_skb`).
///
/// # Errors
///
/// As [`exchange`]; no connection yields a cookie; or the client had one before.
pub fn request_cookie(pair: &Pair, listener: &Listener, family: Family) -> Result<()> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let exchange = exchange(pair, listener, family, Method::SendTo)?;
        ensure!(!exchange.in_syn, "the client had a {family} cookie before");
        if pair.cached_cookie(family)?.is_some() {
            return Ok(());
        }
    }
    pair.ensure_cookie(family)
}

/// Connects the client to `listener`, sends [`REQUEST`], and receives it as the reply.
///
/// On return, both ends are closed, and no frame that changes a counter is in flight.
///
/// # Errors
///
/// A step fails, or `TCPI_OPT_SYN_DATA` differs between the ends.
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
        "TCPI_OPT_SYN_DATA is {in_syn} at the client, {taken} at the server"
    );
    Ok(Exchange {
        in_syn,
        before_handshake,
        took,
    })
}
