//! A testbed for single connections under changing policies.

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

/// The client's cached cookie before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// A cookie of the server's key.
    Valid,
    /// A cookie of a key that the server no longer has.
    Stale,
    /// No cookie: the client requests one.
    Nothing,
}

impl Has {
    /// The class of its SYN in a policy.
    pub(crate) const fn class(self) -> Class {
        match self {
            Self::Valid => Class::Valid,
            Self::Stale => Class::Bad,
            Self::Nothing => Class::Request,
        }
    }
}

/// Results of one connection.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) exchange: Exchange,
    /// The increase of the counters of the kernel and of `tfo`.
    pub(crate) tally: Tally,
    /// The increase of the policy's counters.
    pub(crate) policy: Vec<(Counter, u64)>,
    /// Number of SYNs that the client retransmitted.
    pub(crate) retransmitted: u64,
    /// The client's cached cookie after the connection.
    pub(crate) cookie: Option<[u8; 8]>,
}

/// A client, a server and a policy.
pub(crate) struct PolicyTestbed {
    pub(crate) base: Testbed,
    pub(crate) listener: Listener,
    raw: RawClient,
    family: Family,
    /// The server's present key and the previous one.
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

    /// The client's cookie under the present key, and under the previous one.
    pub(crate) fn cookies(&self) -> Result<[[u8; 8]; 2]> {
        let cookie = |index| -> Result<_> {
            let (client, server) = (self.family.client(), self.family.server());
            Ok(keys::cookie(&self.key(index)?, client, server))
        };
        Ok([cookie(0)?, cookie(1)?])
    }

    /// The client's TCP metrics of the server.
    pub(crate) fn metrics(&self) -> Result<String> {
        self.base.pair.metrics(self.family)
    }

    /// Gives the client this cookie, without a policy in force.
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

    /// Uses up a class's limit of one with another SYN from the client's prefix.
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

    /// Connects, and returns the result. `tfo` and the kernel must count the same.
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

    /// Prepares a client with `has`, connects under `policy`, and checks that `action` was taken for `cause`: data
    /// arrives once and whole, and both ends have the expected state.
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

/// The kernel's expected counts for a SYN after `action`.
fn tally(has: Has, action: Action) -> Tally {
    let mut tally = Tally::default();
    match (has, action) {
        (_, Action::Reissue) | (Has::Nothing, Action::Pass | Action::Once) => tally.requests = 1,
        (Has::Valid, Action::Pass | Action::Once) => tally.passive = 1,
        (Has::Stale, Action::Pass | Action::Once) => tally.failed = 1,
        (_, Action::Fallback | Action::Drop) => {}
    }
    tally
}

/// The policy's expected counts for a SYN after `action`.
fn counted(action: Action, cause: Cause) -> Vec<(Counter, u64)> {
    let action = match action {
        Action::Pass => return Vec::new(),
        Action::Reissue => Counter::PolicyReissue,
        Action::Fallback => Counter::PolicyFallback,
        Action::Drop => Counter::PolicyDrop,
        Action::Once => return vec![(Counter::PolicyFirst, 1)],
    };
    vec![(action, 1), (cause.counter(), 1)]
}
