//! A farm in etcd: what its keys are called there, and the few things that are done to them. What one call
//! changes, it changes as a whole or not at all.
//!
//! | key below the prefix | holds |
//! |---|---|
//! | `document` | where the farm stands |
//! | `hosts/NAME` | what the host has in force; there for as long as rotations wait for it |
//! | `left/NAME` | what a host had in force that a rotation went on without |
//! | `election/LEASE` | a host that runs; the first of them leads |
//! | `request` | what someone asked the leader for |

mod error;
mod lease;
mod snapshot;

use std::{fmt::Display, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity,
    ResponseHeader, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use serde::Serialize;

use self::{
    error::{explain, limited, text},
    snapshot::stored,
};
use super::{FarmConfig, FarmError, config::pem};

pub(super) use lease::{LEASE, Lease};
pub(super) use snapshot::{Candidate, Snapshot, Stored};
pub use snapshot::{Record, Wish};

/// How long etcd may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How many keys are read at a time.
const PART: i64 = 1000;
/// After how much silence etcd is asked whether it is there, and how long it may take to say so.
const ALIVE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];

/// etcd, with one farm's keys.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    prefix: String,
    /// For errors.
    place: String,
    user: Option<String>,
}

impl Store {
    /// Makes a connection, and shows who this is.
    pub(super) async fn connect(config: &FarmConfig) -> Result<Self, FarmError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(LIMIT)
            .with_keep_alive(ALIVE[0], ALIVE[1])
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let (Some((user, _)), Some(password)) = (&config.user, config.password()?) {
            options = options.with_user(user, password.as_str());
        }
        let mut tls = TlsOptions::new();
        if let Some(ca) = &config.ca {
            tls = tls.ca_certificate(Certificate::from_pem(pem(ca)?));
        }
        if let (Some((certificate, _)), Some(key)) = (&config.certificate, config.key()?) {
            tls = tls.identity(Identity::from_pem(pem(certificate)?, &*key));
        }
        if config.endpoints.iter().any(|it| it.starts_with("https:")) {
            options = options.with_tls(tls);
        }
        let place = config.endpoints.join(", ");
        let user = config.user.as_ref().map(|(user, _)| user.clone());
        let explain = |error| explain(&place, user.as_deref(), &config.prefix, error);
        let client = Client::connect(&config.endpoints, Some(options));
        let client = limited(client).await.map_err(explain)?;
        Ok(Self {
            client,
            prefix: config.prefix.clone(),
            place,
            user,
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn error(&self, error: impl Display) -> FarmError {
        explain(&self.place, self.user.as_deref(), &self.prefix, error)
    }

    /// All of the farm, a part at a time: a message has its bounds.
    pub(super) async fn read(&mut self) -> Result<Snapshot, FarmError> {
        let mut snapshot = Snapshot::default();
        let mut from = self.prefix.clone().into_bytes();
        // The last byte is a slash, and no greater one.
        let mut end = from.clone();
        end.pop();
        end.push(b'/' + 1);
        loop {
            let part = GetOptions::new()
                .with_range(end.as_slice())
                .with_limit(PART);
            // 0 is for the newest; all parts are of one revision.
            let part = part.with_revision(snapshot.revision);
            let answer = limited(self.client.get(from, Some(part))).await;
            let answer = answer.map_err(|error| self.error(error))?;
            if snapshot.revision == 0 {
                snapshot.revision = answer.header().map_or(0, ResponseHeader::revision);
            }
            for pair in answer.kvs() {
                snapshot.put(&self.prefix, pair);
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
                _ => break,
            }
        }
        snapshot.candidates.sort_by_key(|it| it.written);
        Ok(snapshot)
    }

    /// The document, and the revision at which it was read.
    pub(super) async fn document(&mut self) -> Result<(i64, Option<Stored<Vec<u8>>>), FarmError> {
        let answer = limited(self.client.get(self.key("document"), None)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        let document = answer.kvs().first().map(|pair| Stored {
            value: pair.value().to_vec(),
            written: pair.mod_revision(),
        });
        Ok((revision, document))
    }

    /// Whatever happens to a key from `revision` on, or to all that it begins.
    pub(super) async fn watch(
        &mut self,
        name: &str,
        revision: i64,
    ) -> Result<WatchStream, FarmError> {
        let mut options = WatchOptions::new().with_start_revision(revision);
        if name.is_empty() {
            options = options.with_prefix();
        }
        let key = self.key(name);
        let watch = limited(self.client.watch(key, Some(options))).await;
        Ok(watch.map_err(|error| self.error(error))?.1)
    }

    /// A host's record, if there is one.
    pub(super) async fn record(&mut self, host: &str) -> Result<Option<Stored<Record>>, FarmError> {
        let key = self.key(&format!("hosts/{host}"));
        let answer = limited(self.client.get(key, None)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        Ok(answer.kvs().first().and_then(stored))
    }

    /// Writes a host's record, if it is still as it was at `written` (0 where there was none). Gives the
    /// revision of the new one.
    pub(super) async fn put_record(
        &mut self,
        host: &str,
        record: &Record,
        written: i64,
    ) -> Result<Option<i64>, FarmError> {
        let key = self.key(&format!("hosts/{host}"));
        let same = Compare::mod_revision(key.as_str(), CompareOp::Equal, written);
        let put = [
            TxnOp::put(key, json(record), None),
            TxnOp::delete(self.key(&format!("left/{host}")), None),
        ];
        self.commit(vec![same], put.to_vec()).await
    }

    /// Carries out `then`, if all of `when` holds. Gives the revision at which it did.
    async fn commit(
        &mut self,
        when: Vec<Compare>,
        then: Vec<TxnOp>,
    ) -> Result<Option<i64>, FarmError> {
        let change = Txn::new().when(when).and_then(then);
        let answer = limited(self.client.txn(change)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        Ok(answer.succeeded().then_some(revision))
    }

    /// Puts up a document where there is none; or in the place of whatever stands there.
    pub(super) async fn found(&mut self, text: &str, replace: bool) -> Result<bool, FarmError> {
        let key = self.key("document");
        let none = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        let when = if replace { Vec::new() } else { vec![none] };
        let put = TxnOp::put(key, text, None);
        Ok(self.commit(when, vec![put]).await?.is_some())
    }

    /// As the leader: the next document, if nothing has changed that it was decided on: the document, the
    /// request that it fulfils, and that this host leads.
    pub(super) async fn advance(
        &mut self,
        text: &str,
        basis: &Basis<'_>,
        fulfils: Option<i64>,
    ) -> Result<bool, FarmError> {
        let mut when = self.basis(basis);
        let mut then = vec![TxnOp::put(self.key("document"), text, None)];
        if let Some(written) = fulfils {
            let key = self.key("request");
            when.push(Compare::mod_revision(
                key.as_str(),
                CompareOp::Equal,
                written,
            ));
            then.push(TxnOp::delete(key, None));
        }
        Ok(self.commit(when, then).await?.is_some())
    }

    /// As the leader: goes on without a host, if that has said nothing meanwhile.
    pub(super) async fn leave(
        &mut self,
        host: &str,
        record: &Stored<Record>,
        basis: &Basis<'_>,
    ) -> Result<bool, FarmError> {
        let key = self.key(&format!("hosts/{host}"));
        let mut when = self.basis(basis);
        when.push(Compare::mod_revision(
            key.as_str(),
            CompareOp::Equal,
            record.written,
        ));
        let then = vec![
            TxnOp::delete(key, None),
            TxnOp::put(self.key(&format!("left/{host}")), json(&record.value), None),
        ];
        Ok(self.commit(when, then).await?.is_some())
    }

    fn basis(&self, basis: &Basis<'_>) -> Vec<Compare> {
        let document = self.key("document");
        vec![
            Compare::mod_revision(document, CompareOp::Equal, basis.document),
            Compare::create_revision(basis.leader, CompareOp::Greater, 0),
        ]
    }

    /// Takes a host out of the farm, so that no rotation waits for it. `false` where there is none.
    pub(super) async fn forget(&mut self, host: &str) -> Result<bool, FarmError> {
        let [member, left] = ["hosts", "left"].map(|it| self.key(&format!("{it}/{host}")));
        let delete = [member, left].map(|key| TxnOp::delete(key, None));
        let change = limited(self.client.txn(Txn::new().and_then(delete.to_vec()))).await;
        let change = change.map_err(|error| self.error(error))?;
        let deleted = change.op_responses().into_iter().map(|it| match it {
            TxnOpResponse::Delete(it) => it.deleted(),
            _ => 0,
        });
        Ok(deleted.sum::<i64>() > 0)
    }

    /// Asks the leader for something.
    pub(super) async fn ask(&mut self, wish: Wish) -> Result<i64, FarmError> {
        let put = limited(self.client.put(self.key("request"), json(&wish), None)).await;
        let put = put.map_err(|error| self.error(error))?;
        Ok(put.header().map_or(0, ResponseHeader::revision))
    }

    /// A lease, and the two ends of what keeps it alive.
    pub(super) async fn lease(&mut self) -> Result<Lease, FarmError> {
        let granted = self.client.lease_grant(LEASE.as_secs().cast_signed(), None);
        let granted = limited(granted).await.map_err(|error| self.error(error))?;
        let id = granted.id();
        let kept = limited(self.client.lease_keep_alive(id)).await;
        let (keeper, answers) = kept.map_err(|error| self.error(error))?;
        Ok(Lease::new(id, keeper, answers))
    }

    /// Whether a lease has not ended yet.
    pub(super) async fn is_alive(&mut self, lease: i64) -> Result<bool, FarmError> {
        let left = limited(self.client.lease_time_to_live(lease, None)).await;
        let left = left.map_err(|error| self.error(error))?;
        Ok(left.ttl() > 0)
    }

    /// Ends a lease that nobody needs any more.
    pub(super) async fn end_lease(&mut self, id: i64) {
        // It may have ended by itself.
        let _ = limited(self.client.lease_revoke(id)).await;
    }

    /// Stands for election, and waits until this host leads. Gives the key by which etcd knows that it does.
    pub(super) async fn campaign(
        mut self,
        candidate: Candidate,
        lease: i64,
    ) -> Result<Vec<u8>, FarmError> {
        let name = self.key("election");
        let won = self.client.campaign(name, json(&candidate), lease).await;
        let won = won.map_err(|error| self.error(text(&error)))?;
        let key = won.leader().map(|leader| leader.key().to_vec());
        key.ok_or_else(|| self.error("an election without a winner"))
    }

    /// The next of a stream's messages.
    pub(super) fn next<T>(&self, message: Result<Option<T>, Error>) -> Result<T, FarmError> {
        let message = message.map_err(|error| self.error(text(&error)))?;
        message.ok_or_else(|| self.error("it ended the connection"))
    }
}

/// What a leader's decision rests on.
pub(super) struct Basis<'a> {
    /// The revision at which the document was written.
    pub(super) document: i64,
    /// The key that is there for as long as it leads.
    pub(super) leader: &'a [u8],
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are JSON")
}
