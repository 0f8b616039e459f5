//! Reads and transactions on a farm's keys in etcd.

use std::{fmt::Display, sync::Arc, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity,
    ResponseHeader, TlsOptions, Txn, TxnOp, WatchOptions, WatchStream,
};

use super::{
    error::{TIMEOUT, explain, limited, text},
    lease::{LEASE_TIME, Lease},
    snapshot::{Candidate, Versioned, parse},
};
use crate::farm::{
    config::{FarmConfig, read_pem},
    error::FarmError,
    host_record::HostRecord,
    request::Request,
    seal::Codec,
};

/// HTTP/2 keep-alive: the interval of pings, and how long their answer may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to etcd, for the keys of one farm.
#[derive(Clone)]
pub(in crate::farm) struct Store {
    pub(super) client: Client,
    pub(super) codec: Arc<Codec>,
    /// For error messages.
    endpoints: String,
    /// For error messages.
    user: Option<String>,
}

impl Store {
    /// Connects and authenticates.
    pub(in crate::farm) async fn connect(config: &FarmConfig) -> Result<Self, FarmError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(TIMEOUT)
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let (Some((user, _)), Some(password)) = (&config.user, config.password()?) {
            options = options.with_user(user, password.as_str());
        }
        let mut tls = TlsOptions::new();
        if let Some(ca) = &config.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read_pem(ca)?));
        }
        if let (Some((certificate, _)), Some(key)) = (&config.certificate, config.key()?) {
            tls = tls.identity(Identity::from_pem(read_pem(certificate)?, &*key));
        }
        if config.endpoints.iter().any(|it| it.starts_with("https:")) {
            options = options.with_tls(tls);
        }
        let endpoints = config.endpoints.join(", ");
        let user = config.user.as_ref().map(|(user, _)| user.clone());
        let explain = |error| explain(&endpoints, user.as_deref(), &config.prefix, error);
        let client = Client::connect(&config.endpoints, Some(options));
        let client = limited(client).await.map_err(explain)?;
        Ok(Self {
            client,
            codec: Arc::new(Codec::new(&config.prefix, config.seal()?)),
            endpoints,
            user,
        })
    }

    /// Reads and writes the farm's values.
    pub(in crate::farm) fn codec(&self) -> &Codec {
        &self.codec
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.codec.prefix())
    }

    pub(super) fn error(&self, error: impl Display) -> FarmError {
        let prefix = self.codec.prefix();
        explain(&self.endpoints, self.user.as_deref(), prefix, error)
    }

    /// Reads the document. Gives the revision of the read, too.
    pub(in crate::farm) async fn document(
        &mut self,
    ) -> Result<(i64, Option<Versioned<Vec<u8>>>), FarmError> {
        let answer = limited(self.client.get(self.key("document"), None)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        let document = answer.kvs().first().map(|pair| Versioned {
            value: pair.value().to_vec(),
            revision: pair.mod_revision(),
        });
        Ok((revision, document))
    }

    /// Watches a key from `revision` on; all keys that begin with `name` where that is empty or ends in a slash.
    pub(in crate::farm) async fn watch(
        &mut self,
        name: &str,
        revision: i64,
    ) -> Result<WatchStream, FarmError> {
        // Whoever writes long values must not break the watch.
        let mut options = WatchOptions::new()
            .with_start_revision(revision)
            .with_fragment();
        if name.is_empty() || name.ends_with('/') {
            options = options.with_prefix();
        }
        let key = self.key(name);
        let watch = limited(self.client.watch(key, Some(options))).await;
        Ok(watch.map_err(|error| self.error(error))?.1)
    }

    /// `true` if the key exists.
    pub(in crate::farm) async fn exists(&mut self, key: &[u8]) -> Result<bool, FarmError> {
        let options = GetOptions::new().with_count_only();
        let answer = limited(self.client.get(key, Some(options))).await;
        Ok(answer.map_err(|error| self.error(error))?.count() > 0)
    }

    /// Reads a host's record; `None` where there is none that a host of the farm wrote.
    pub(in crate::farm) async fn record(
        &mut self,
        host: &str,
    ) -> Result<Option<HostRecord>, FarmError> {
        let name = format!("hosts/{host}");
        let answer = limited(self.client.get(self.key(&name), None)).await;
        let answer = answer.map_err(|error| self.error(error))?;
        let pair = answer.kvs().first();
        Ok(pair.and_then(|pair| parse(&self.codec, &name, pair).ok()))
    }

    /// Writes a host's record. Gives its revision.
    pub(in crate::farm) async fn put_record(
        &mut self,
        host: &str,
        record: &HostRecord,
    ) -> Result<i64, FarmError> {
        let name = format!("hosts/{host}");
        let value = self.codec.write(&name, record)?;
        let put = limited(self.client.put(self.key(&name), value, None)).await;
        let put = put.map_err(|error| self.error(error))?;
        Ok(put.header().map_or(0, ResponseHeader::revision))
    }

    /// Commits `then` if all of `when` hold. Gives the revision of the commit; `None` where one does not hold.
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

    /// Writes the first document; with `replace`, in place of any other. `false` where there is one.
    pub(in crate::farm) async fn create_document(
        &mut self,
        text: &str,
        replace: bool,
    ) -> Result<bool, FarmError> {
        let key = self.key("document");
        let none = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
        let when = if replace { Vec::new() } else { vec![none] };
        let put = TxnOp::put(key, text, None);
        Ok(self.commit(when, vec![put]).await?.is_some())
    }

    /// As the leader, writes the next document if `preconditions` hold, removes the request that it fulfils, of the
    /// revision `fulfils`, if that is still the same, and the record of a host that is forgotten. `false` where
    /// something changed.
    pub(in crate::farm) async fn advance(
        &mut self,
        text: &str,
        preconditions: &Preconditions<'_>,
        fulfils: Option<i64>,
        forgets: Option<&str>,
    ) -> Result<bool, FarmError> {
        let mut when = self.compares(preconditions);
        let mut then = vec![TxnOp::put(self.key("document"), text, None)];
        if let Some(revision) = fulfils {
            let key = self.key("request");
            when.push(Compare::mod_revision(
                key.as_str(),
                CompareOp::Equal,
                revision,
            ));
            then.push(TxnOp::delete(key, None));
        }
        if let Some(host) = forgets {
            then.push(TxnOp::delete(self.key(&format!("hosts/{host}")), None));
        }
        Ok(self.commit(when, then).await?.is_some())
    }

    fn compares(&self, preconditions: &Preconditions<'_>) -> Vec<Compare> {
        let document = self.key("document");
        vec![
            Compare::mod_revision(document, CompareOp::Equal, preconditions.document),
            Compare::create_revision(preconditions.leader_key, CompareOp::Greater, 0),
        ]
    }

    /// Leaves a request for the leader.
    pub(in crate::farm) async fn request(&mut self, request: &Request) -> Result<(), FarmError> {
        let value = self.codec.write("request", request)?;
        let put = limited(self.client.put(self.key("request"), value, None)).await;
        put.map(drop).map_err(|error| self.error(error))
    }

    /// Grants a lease and opens its keep-alive stream.
    pub(in crate::farm) async fn lease(&mut self) -> Result<Lease, FarmError> {
        let granted = self
            .client
            .lease_grant(LEASE_TIME.as_secs().cast_signed(), None);
        let granted = limited(granted).await.map_err(|error| self.error(error))?;
        let id = granted.id();
        let kept = limited(self.client.lease_keep_alive(id)).await;
        let (keeper, answers) = kept.map_err(|error| self.error(error))?;
        Ok(Lease::new(id, keeper, answers))
    }

    /// `true` while the lease has not expired.
    pub(in crate::farm) async fn is_lease_alive(&mut self, lease: i64) -> Result<bool, FarmError> {
        let left = limited(self.client.lease_time_to_live(lease, None)).await;
        let left = left.map_err(|error| self.error(error))?;
        Ok(left.ttl() > 0)
    }

    /// Revokes a lease of an earlier session.
    pub(in crate::farm) async fn revoke_lease(&mut self, id: i64) {
        // It may have expired.
        let _ = limited(self.client.lease_revoke(id)).await;
    }

    /// Waits until this host is elected. Gives the key that exists for as long as it leads.
    pub(in crate::farm) async fn campaign(
        mut self,
        candidate: Candidate,
        lease: i64,
    ) -> Result<Vec<u8>, FarmError> {
        // etcd's name for the candidate's key.
        let value = self
            .codec
            .write(&format!("election/{lease:x}"), &candidate)?;
        let won = self
            .client
            .campaign(self.key("election"), value, lease)
            .await;
        let won = won.map_err(|error| self.error(text(&error)))?;
        let key = won.leader().map(|leader| leader.key().to_vec());
        key.ok_or_else(|| self.error("an election without a winner"))
    }

    /// The message that a stream gave, or why there is none.
    pub(in crate::farm) fn next_message<T>(
        &self,
        message: Result<Option<T>, Error>,
    ) -> Result<T, FarmError> {
        let message = message.map_err(|error| self.error(text(&error)))?;
        message.ok_or_else(|| self.error("it closed the connection"))
    }
}

/// Conditions that must still hold when a leader's write reaches etcd.
pub(in crate::farm) struct Preconditions<'a> {
    /// The revision of the document.
    pub(in crate::farm) document: i64,
    /// The key that exists for as long as this host leads.
    pub(in crate::farm) leader_key: &'a [u8],
}
