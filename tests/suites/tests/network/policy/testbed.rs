//! A wire on which one connection after the other is made under one policy after the other.

use anyhow::{Result, ensure};
use tfo_common::{
    counters::{Counter, Counters},
    fastopen::Key,
    policy::{Action, Cause, Class},
};
use tfo_testbed::{
    kernel::TcpExt,
    keys::{self, KeyFile},
    raw::{RawClient, RawSyn},
    socket::{Listener, Method},
    testbed::{Exchange, Tally, Testbed, exchange},
    veth::{Family, Pair, server_port},
};
use tfo_userspace::model::Policy;

/// What the client knows when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// A cookie of the server's key.
    Valid,
    /// A cookie of a key that the server has no more.
    Stale,
    /// No cookie: it asks for one.
    Nothing,
}

impl Has {
    /// What its SYN is to a policy.
    pub(crate) const fn class(self) -> Class {
        match self {
            Self::Valid => Class::Valid,
            Self::Stale => Class::Bad,
            Self::Nothing => Class::Request,
        }
    }
}

/// What one connection came to.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) exchange: Exchange,
    /// What the kernel counted, and `tfo`.
    pub(crate) tally: Tally,
    /// What the policy counted.
    pub(crate) policy: Vec<(Counter, u64)>,
    /// How many SYNs the client sent once more.
    pub(crate) retransmitted: u64,
    /// The cookie that the client holds afterwards.
    pub(crate) cookie: Option<[u8; 8]>,
}

/// A client, a server, and the policy between them.
pub(crate) struct PolicyTestbed {
    pub(crate) base: Testbed,
    pub(crate) listener: Listener,
    raw: RawClient,
    family: Family,
    /// The server's key, and the one before.
    keys: [&'static str; 2],
}

impl PolicyTestbed {
    pub(crate) fn new(mode: &str, family: Family) -> Result<Self> {
        Self::on(Pair::new()?, mode, family)
    }

    pub(crate) fn on(pair: Pair, mode: &str, family: Family) -> Result<Self> {
        let base = Testbed::attach(pair, &["--mode", mode])?;
        let testbed = Self {
            listener: base.listen(family)?,
            raw: RawClient::new(&base.pair, family, 0)?,
            base,
            family,
            keys: [keys::COUNTING, keys::OTHER],
        };
        testbed.set_key()?;
        Ok(testbed)
    }

    fn set_key(&self) -> Result<()> {
        let file = KeyFile::new(self.keys[0])?;
        let set = ["keys", "set", "--file", file.path()];
        self.base.tfo.done(&set).map(drop)
    }

    fn key(&self, index: usize) -> Result<Key> {
        Ok(keys::parse(self.keys[index])?[0])
    }

    /// The client's cookie of the server's key, and of the key before.
    pub(crate) fn cookies(&self) -> Result<[[u8; 8]; 2]> {
        let cookie = |index| -> Result<_> {
            let (client, server) = (self.family.client(), self.family.server());
            Ok(keys::cookie(&self.key(index)?, client, server))
        };
        Ok([cookie(0)?, cookie(1)?])
    }

    /// What the client's kernel remembers of the server.
    pub(crate) fn metrics(&self) -> Result<String> {
        self.base.pair.metrics(self.family)
    }

    /// Sees to it that the client knows just that. No policy is in force then.
    pub(crate) fn prepare(&mut self, has: Has) -> Result<()> {
        self.base.set_policy(None)?;
        self.base.pair.forget_cookies()?;
        if has == Has::Nothing {
            return Ok(());
        }
        self.base.request_cookie(&self.listener, self.family)?;
        if has == Has::Stale {
            self.keys.reverse();
            self.set_key()?;
        }
        let [fresh, stale] = self.cookies()?;
        let expected = if has == Has::Stale { stale } else { fresh };
        let cached = self.base.pair.cached_cookie(self.family)?;
        ensure!(
            cached == Some(expected),
            "{cached:02x?}, not {expected:02x?}"
        );
        Ok(())
    }

    /// Takes what a limit of one leaves to a class, from the prefix that the client is in.
    pub(crate) fn drain(&mut self, class: Class) -> Result<()> {
        let server = server_port(self.family, self.listener.port());
        let valid = keys::cookie(&self.key(0)?, self.raw.address(), server.ip());
        let (cookie, taken) = match class {
            Class::Valid | Class::Data => (&valid[..], true),
            Class::Bad => (&[7; 8][..], false),
            Class::Request => (&[][..], false),
        };
        self.raw
            .send(server, &RawSyn::fast_open(34, cookie, b"data"))?;
        if taken {
            self.listener.accept()?;
        }
        Ok(())
    }

    fn exchange(&self) -> Result<Exchange> {
        exchange(&self.base.pair, &self.listener, self.family, Method::SendTo)
    }

    /// Has the client connect, and says what came of it: `tfo` and the kernel must agree.
    pub(crate) fn connect(&self) -> Result<Came> {
        let before = self.counted()?;
        let exchange = self.exchange()?;
        let after = self.counted()?;
        ensure!(
            after.ours == after.kernel,
            "tfo {}\nkernel {}",
            after.ours,
            after.kernel
        );
        let policy = Counter::ALL.into_iter().filter(|counter| {
            let name = counter.name();
            name.starts_with("Policy") || name.starts_with("DryRun")
        });
        let policy = policy.map(|counter| {
            let grown = after.counters.get(counter) - before.counters.get(counter);
            (counter, grown)
        });
        Ok(Came {
            exchange,
            tally: after.ours.less(before.ours),
            policy: policy.filter(|(_, grown)| *grown > 0).collect(),
            retransmitted: after.retransmitted - before.retransmitted,
            cookie: self.base.pair.cached_cookie(self.family)?,
        })
    }

    fn counted(&self) -> Result<Counted> {
        let drift = self.base.drift()?;
        let of = |values: &dyn Fn(usize, Counter) -> u64| {
            Tally::of(|name| {
                let mut all = Counter::MIRRORED.into_iter().enumerate();
                let found = all.find(|(_, counter)| counter.name() == name);
                found.map_or(-1, |(index, counter)| values(index, counter).cast_signed())
            })
        };
        Ok(Counted {
            ours: of(&|_, counter| drift.ours.total.get(counter)),
            kernel: of(&|index, _| drift.kernel[index]),
            counters: drift.ours.total,
            retransmitted: TcpExt::read(&self.base.pair.client)?.get("TCPSynRetrans"),
        })
    }

    /// Has a client that knows `has` connect under `policy`, and makes sure that `action` was taken for
    /// `cause`: data arrived once and whole, and both ends remember what they are to.
    pub(crate) fn check(
        &mut self,
        has: Has,
        policy: Policy,
        spent: Option<Class>,
        (action, cause): (Action, Cause),
    ) -> Result<()> {
        self.prepare(has)?;
        self.base.set_policy(Some(policy))?;
        if let Some(class) = spent {
            self.drain(class)?;
        }
        let came = self.connect()?;
        let [fresh, stale] = self.cookies()?;
        let expected = Came {
            exchange: Exchange {
                in_syn: has == Has::Valid && action == Action::Pass,
                ..came.exchange
            },
            tally: tally(has, action),
            policy: counted(action, cause),
            retransmitted: (action == Action::Drop).into(),
            cookie: match (has, action) {
                (Has::Valid, _) | (_, Action::Pass | Action::Reissue) => Some(fresh),
                (Has::Stale, _) => Some(stale),
                (Has::Nothing, _) => None,
            },
        };
        let [came, expected] = [came, expected].map(|came| format!("{came:?}"));
        ensure!(came == expected, "expected {expected}\n     got {came}");
        Ok(())
    }
}

struct Counted {
    ours: Tally,
    kernel: Tally,
    counters: Counters,
    retransmitted: u64,
}

/// What the kernel counts of a SYN to which that was done.
fn tally(has: Has, action: Action) -> Tally {
    let mut tally = Tally::default();
    match (has, action) {
        (_, Action::Reissue) | (Has::Nothing, Action::Pass) => tally.requests = 1,
        (Has::Valid, Action::Pass) => tally.passive = 1,
        (Has::Stale, Action::Pass) => tally.failed = 1,
        (_, Action::Fallback | Action::Drop) => {}
    }
    tally
}

/// What the policy counts of it.
fn counted(action: Action, cause: Cause) -> Vec<(Counter, u64)> {
    let action = match action {
        Action::Pass => return Vec::new(),
        Action::Reissue => Counter::PolicyReissue,
        Action::Fallback => Counter::PolicyFallback,
        Action::Drop => Counter::PolicyDrop,
    };
    vec![(action, 1), (cause.counter(), 1)]
}
