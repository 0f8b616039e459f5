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

use std::{collections::BTreeMap, fmt::Display, future::Future, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KeyValue,
    TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{FarmConfig, FarmError, config::pem};

/// How long etcd may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// After how much silence etcd is asked whether it is there, and how long it may take to say so.
const ALIVE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Tells it from another host of the same name.
    pub instance: String,
    /// Of its tfo.
    pub version: String,
    /// The step that it has in force; see [`super::phase::Place::step`].
    pub step: Option<u64>,
    /// The fingerprint of the key that its kernel issues.
    pub primary: Option<String>,
    /// Its clock less that of who wrote the document, in seconds.
    pub skew: Option<f64>,
    /// What keeps it from going on.
    pub error: Option<String>,
}

/// A host that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) host: String,
    pub(super) instance: String,
}

/// What the leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// A rotation, once no cookie is refused for it that is younger than half an interval.
    Rotate,
    /// A rotation at once.
    RotateNow,
    /// New keys at once, and the old ones refused.
    Revoke,
}

/// A value, and the revision at which it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored<T> {
    pub(super) value: T,
    pub(super) written: i64,
}

/// All of a farm, at one revision.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) revision: i64,
    pub(super) document: Option<Stored<Vec<u8>>>,
    pub(super) hosts: BTreeMap<String, Stored<Record>>,
    pub(super) left: BTreeMap<String, Record>,
    /// By the order in which they came: the first leads.
    pub(super) candidates: Vec<(Stored<Candidate>, i64)>,
    pub(super) request: Option<Stored<Wish>>,
}

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

    /// All of the farm.
    pub(super) async fn read(&mut self) -> Result<Snapshot, FarmError> {
        let all = Some(GetOptions::new().with_prefix());
        let answer = limited(self.client.get(self.prefix.as_str(), all)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let mut snapshot = Snapshot {
            revision: answer.header().map_or(0, |header| header.revision()),
            ..Snapshot::default()
        };
        for pair in answer.kvs() {
            snapshot.put(&self.prefix, pair);
        }
        snapshot.candidates.sort_by_key(|it| it.0.written);
        Ok(snapshot)
    }

    /// The document, and the revision at which it was read.
    pub(super) async fn document(&mut self) -> Result<(i64, Option<Stored<Vec<u8>>>), FarmError> {
        let answer = limited(self.client.get(self.key("document"), None)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let revision = answer.header().map_or(0, |header| header.revision());
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
        let revision = answer.header().map_or(0, |header| header.revision());
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
        Ok(put.header().map_or(0, |header| header.revision()))
    }

    /// A lease, and the two ends of what keeps it alive.
    pub(super) async fn lease(&mut self, time: Duration) -> Result<Lease, FarmError> {
        let granted = self.client.lease_grant(time.as_secs().cast_signed(), None);
        let granted = limited(granted).await.map_err(|error| self.error(error))?;
        let id = granted.id();
        let kept = limited(self.client.lease_keep_alive(id)).await;
        let (keeper, answers) = kept.map_err(|error| self.error(error))?;
        Ok(Lease {
            id,
            keeper,
            answers,
        })
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

/// A lease that has to be kept alive.
pub(super) struct Lease {
    pub(super) id: i64,
    pub(super) keeper: etcd_client::LeaseKeeper,
    pub(super) answers: etcd_client::LeaseKeepAliveStream,
}

impl Snapshot {
    /// A key was written.
    pub(super) fn put(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => {
                self.document = Some(Stored {
                    value: pair.value().to_vec(),
                    written: pair.mod_revision(),
                });
            }
            None if name == "request" => self.request = stored(pair),
            Some(("hosts", host)) => {
                // Whatever it is, it is no acknowledgement.
                let record = stored(pair).unwrap_or(Stored {
                    value: Record::default(),
                    written: pair.mod_revision(),
                });
                self.hosts.insert(host.to_owned(), record);
            }
            Some(("left", host)) => {
                let record = stored(pair).map(|it| it.value).unwrap_or_default();
                self.left.insert(host.to_owned(), record);
            }
            Some(("election", _)) => {
                if let Some(mut candidate) = stored::<Candidate>(pair) {
                    candidate.written = pair.create_revision();
                    self.candidates.push((candidate, pair.lease()));
                }
            }
            _ => {}
        }
    }

    /// A key was removed.
    pub(super) fn delete(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => self.document = None,
            None if name == "request" => self.request = None,
            Some(("hosts", host)) => drop(self.hosts.remove(host)),
            Some(("left", host)) => drop(self.left.remove(host)),
            _ => {}
        }
    }
}

fn name<'a>(prefix: &str, pair: &'a KeyValue) -> Option<&'a str> {
    pair.key_str().ok()?.strip_prefix(prefix)
}

fn stored<T: DeserializeOwned>(pair: &KeyValue) -> Option<Stored<T>> {
    Some(Stored {
        value: serde_json::from_slice(pair.value()).ok()?,
        written: pair.mod_revision(),
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are JSON")
}

/// What etcd answers, where it does in time.
async fn limited<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| text(&error)),
        Err(_) => Err(format!("no answer for {} s", LIMIT.as_secs())),
    }
}

/// An error with its causes, as far as each says more than the one before.
fn text(error: &Error) -> String {
    let (mut text, mut cause): (String, Option<&dyn std::error::Error>) = match error {
        Error::GRpcStatus(status) => (
            status.message().to_owned(),
            std::error::Error::source(status),
        ),
        Error::TransportError(error) => (error.to_string(), std::error::Error::source(error)),
        error => (error.to_string(), None),
    };
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// What etcd's word means, and what to do about it.
fn explain(place: &str, user: Option<&str>, prefix: &str, error: impl Display) -> FarmError {
    let error = error.to_string();
    let says = |part: &str| error.contains(part);
    let remedy = if says("space exceeded") {
        "it is full: compact and defragment it, then `etcdctl alarm disarm`".to_owned()
    } else if says("authentication failed") {
        "look at user and password in [farm]".to_owned()
    } else if says("permission denied") {
        format!(
            "let {} read and write what begins with {prefix}: `etcdctl role grant-permission --prefix=true ROLE readwrite {prefix}`",
            user.map_or("this host".to_owned(), |user| format!("user {user}"))
        )
    } else if says("user name is empty") || says("user name not found") {
        "it wants to know who asks: give user and password in [farm]".to_owned()
    } else if says("Expired") || says("expired") {
        "a certificate has expired: renew it, or set the clock right".to_owned()
    } else if says("certificate") || says("Certificate") || says("UnknownIssuer") {
        "look at ca, certificate and key in [farm], and at the certificate of etcd".to_owned()
    } else {
        "look whether it runs and can be reached from here".to_owned()
    };
    FarmError::Etcd {
        place: place.to_owned(),
        error,
        remedy,
    }
}
