//! A testbed that sets up one condition after the other.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter::{self, *},
    fastopen::Key,
};
use tfo_testbed::{
    kernel::{TcpExt, is_before},
    keys,
    raw::{Answer, RawClient, RawSyn},
    socket::Listener,
    testbed::Testbed,
    tfo::Named,
    veth::{Family, Pair, server_port},
};

use super::table::{Before, Condition, DEFAULTS, Each, KERNEL, Reply, Row, Syn};

/// Time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(3);
/// A port without a listener.
const CLOSED: u16 = 1;

const DATA: &[u8] = b"0123456789";

/// A server with `tfo`, and a raw client.
pub(crate) struct ConditionTestbed {
    base: Testbed,
    client: RawClient,
    family: Family,
    /// The family of the listeners' addresses; IPv6 listeners are dual-stack.
    listeners: Family,
}

/// A condition in force: the listener's address, and the keys of its cookies.
struct Setup {
    listener: Option<Listener>,
    server: SocketAddr,
    keys: [Key; 2],
}

impl ConditionTestbed {
    pub(crate) fn new(family: Family, listeners: Family) -> Result<Self> {
        let pair = Pair::new()?;
        let both = format!("{},{}", keys::COUNTING, keys::OTHER);
        pair.server.set_sysctl(keys::SYSCTL, &both)?;
        let base = Testbed::attach(pair, &[])?;
        let client = RawClient::new(&base.pair, family, 0)?;
        Ok(Self {
            base,
            client,
            family,
            listeners,
        })
    }

    /// Sets up a condition, and sends the SYNs of its rows with and without data.
    pub(crate) fn check(&mut self, condition: &Condition) -> Result<()> {
        // Before the listener: some settings matter to listen(2), others would keep the queues empty.
        self.configure(condition.host)?;
        let setup = self.set_up(condition)?;
        self.configure(&[])?;
        self.prepare(&condition.before, &setup)?;
        self.configure(condition.host)?;
        let rows = match condition.older {
            Some(((major, minor), rows)) if is_before(major, minor)? => rows,
            _ => condition.rows,
        };
        for row in rows {
            for syn in row.syns {
                let both: &[&[u8]] = match syn {
                    Syn::Plain => &[&[]],
                    Syn::Data => &[DATA],
                    _ => &[DATA, &[]],
                };
                for data in both {
                    self.send(condition, &setup, row, *syn, data)
                        .with_context(|| format!("{syn:?} with {} bytes", data.len()))?;
                }
            }
        }
        Ok(())
    }

    fn configure(&self, host: &[(&str, &str)]) -> Result<()> {
        DEFAULTS
            .iter()
            .chain(host)
            .try_for_each(|(key, value)| self.base.pair.server.set_sysctl(key, value))
    }

    fn set_up(&self, condition: &Condition) -> Result<Setup> {
        let address = SocketAddr::new(self.listeners.unspecified(), 0);
        let listener = condition
            .listener
            .map(|settings| Listener::with(&self.base.pair.server, address, &settings))
            .transpose()?;
        let port = listener.as_ref().map_or(CLOSED, Listener::port);
        let host = [keys::COUNTING, keys::OTHER].map(|text| keys::parse(text).map(|keys| keys[0]));
        let [primary, backup] = host;
        let mut keys = [primary?, backup?];
        let own = condition.listener.map_or(&[][..], |settings| settings.keys);
        for (key, own) in keys.iter_mut().zip(own.chunks_exact(Key::LEN)) {
            *key = Key::from_bytes(own.try_into()?);
        }
        Ok(Setup {
            listener,
            server: server_port(self.family, port),
            keys,
        })
    }

    fn prepare(&mut self, before: &Before, setup: &Setup) -> Result<()> {
        let (syn, count) = match before {
            Before::Nothing => return Ok(()),
            Before::Plain(count) => (Syn::Plain, count),
            Before::Accepted(count) => (Syn::Primary, count),
        };
        for _ in 0..*count {
            let syn = self.raw(syn, setup, &[])?;
            self.client.send_in(&self.base.pair, setup.server, &syn)?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        condition: &Condition,
        setup: &Setup,
        row: &Row,
        syn: Syn,
        data: &[u8],
    ) -> Result<()> {
        self.client.patience = PATIENCE;
        match condition.each {
            Each::New => {}
            Each::Again(first) => {
                let first = self.raw(first, setup, data)?;
                self.client.send(setup.server, &first)?;
            }
            Each::Reopening => {
                let listener = setup.listener.as_ref().context("no listener")?;
                listener.reset_all()?;
                let opening = RawSyn::plain(&[]);
                self.client
                    .time_wait(setup.server, &opening, true, || listener.accept().map(drop))?;
                self.client.advance(0x1_0000);
            }
        }
        let before = self.counted()?;
        let raw = self.raw(syn, setup, data)?;
        if matches!(condition.each, Each::New) {
            self.client.next_port();
        }
        let pair = &self.base.pair;
        let answer = match row.reply {
            Reply::Silence => self.client.send_again_in(pair, setup.server, &raw)?,
            _ => self.client.send_again(setup.server, &raw)?,
        };
        let expected = self.answer(row.reply, setup, data);
        ensure!(answer == expected, "{answer:?}, expected {expected:?}");
        let after = self.counted()?;
        Self::compare(row, syn, [&before, &after])
    }

    /// Makes the SYN as bytes.
    fn raw(&self, syn: Syn, setup: &Setup, data: &[u8]) -> Result<RawSyn> {
        let host = keys::parse(keys::COUNTING)?[0];
        let cookie = |key| keys::cookie(key, self.client.address(), setup.server.ip());
        let [primary, backup] = &setup.keys;
        Ok(match syn {
            Syn::Plain | Syn::Data => RawSyn::plain(data),
            Syn::Request => RawSyn::fast_open(34, &[], data),
            Syn::Primary => RawSyn::fast_open(34, &cookie(primary), data),
            Syn::Backup => RawSyn::fast_open(34, &cookie(backup), data),
            Syn::OfTheHost => RawSyn::fast_open(34, &cookie(&host), data),
            Syn::Bad => RawSyn::fast_open(34, &[7; 8], data),
            Syn::BadLength => RawSyn::fast_open(34, &[7; 6], data),
        })
    }

    fn answer(&self, reply: Reply, setup: &Setup, data: &[u8]) -> Answer {
        let cookie = || {
            let primary = &setup.keys[0];
            let cookie = keys::cookie(primary, self.client.address(), setup.server.ip());
            Some((34, cookie.to_vec()))
        };
        let all = data.len() as u32;
        let (acked, cookie) = match reply {
            Reply::Plain => (0, None),
            Reply::Cookie => (0, cookie()),
            Reply::Taken => (all, None),
            Reply::TakenAndCookie => (all, cookie()),
            Reply::Reset => return Answer::Reset,
            Reply::Silence => return Answer::Silence,
        };
        Answer::SynAck { acked, cookie }
    }

    /// The counters of `tfo` and of the kernel.
    fn counted(&self) -> Result<(Named, TcpExt)> {
        Ok((self.base.equal()?.counters, self.base.kernel()?))
    }

    fn compare(row: &Row, syn: Syn, [before, after]: [&(Named, TcpExt); 2]) -> Result<()> {
        let kernel = after.1.since(&before.1);
        let counted: Vec<_> = KERNEL
            .iter()
            .map(|name| (*name, kernel.get(name)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let expected: Vec<_> = KERNEL
            .iter()
            .filter(|name| row.counts.contains(name))
            .map(|name| (*name, 1))
            .collect();
        ensure!(
            counted == expected,
            "the kernel counted {counted:?}, expected {expected:?}"
        );
        let grew = |counter: &Counter| {
            let name = counter.name();
            after.0.get(name) != before.0.get(name)
        };
        let ours: BTreeSet<_> = Counter::REASONS
            .iter()
            .filter(|c| grew(c))
            .map(|c| c.name())
            .collect();
        // A SYN without a Fast Open option has no reason.
        let reason = row
            .reason
            .filter(|_| !matches!(syn, Syn::Plain | Syn::Data));
        let expected: BTreeSet<_> = reason.iter().map(|c| c.name()).collect();
        ensure!(ours == expected, "reason {ours:?}, expected {expected:?}");
        ensure!(grew(&Syns), "the SYN was not counted");
        Ok(())
    }
}
