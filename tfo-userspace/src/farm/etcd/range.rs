//! Bounded reads: whoever may write below the prefix may have written anything there.

use etcd_client::{Client, Error, GetOptions, GetResponse, ResponseHeader};

use super::{
    error::{TIMEOUT, text},
    snapshot::FarmSnapshot,
    store::Store,
};
use crate::farm::error::FarmError;

/// Keys per request. Fewer where their values are too long for one answer.
const PAGE: i64 = 256;
/// Most keys and bytes of a range. A farm of the largest size stays below.
const MAX_KEYS: usize = 20_000;
const MAX_BYTES: usize = 32 << 20;
/// The ranges of a farm, below its prefix.
const RANGES: [&str; 2] = ["election/", "hosts/"];

/// An error of a read.
enum ReadError {
    /// The answer is longer than a message may be.
    TooLong,
    Other(String),
}

async fn get(
    client: &mut Client,
    from: &[u8],
    options: GetOptions,
) -> Result<GetResponse, ReadError> {
    match tokio::time::timeout(TIMEOUT, client.get(from, Some(options))).await {
        Ok(Ok(answer)) => Ok(answer),
        // tonic's error for an answer over its limit.
        Ok(Err(Error::GRpcStatus(status)))
            if status.message().contains("message length too large") =>
        {
            Err(ReadError::TooLong)
        }
        Ok(Err(error)) => Err(ReadError::Other(text(&error))),
        Err(_) => Err(ReadError::Other(format!(
            "no answer for {} s",
            TIMEOUT.as_secs()
        ))),
    }
}

impl Store {
    /// Reads all keys of the farm, at one revision.
    pub(in crate::farm) async fn read(&mut self) -> Result<FarmSnapshot, FarmError> {
        let mut snapshot = FarmSnapshot::default();
        for name in ["document", "request"] {
            let key = self.key(name).into_bytes();
            let options = GetOptions::new().with_revision(snapshot.revision);
            let answer = match get(&mut self.client, &key, options).await {
                Ok(answer) => answer,
                Err(ReadError::TooLong) => return Err(self.flooded(name)),
                Err(ReadError::Other(error)) => return Err(self.error(error)),
            };
            self.take(&mut snapshot, &answer);
        }
        for name in RANGES {
            self.read_range(&mut snapshot, name).await?;
        }
        Ok(snapshot)
    }

    /// Reads all keys whose names begin with `name`, which ends in a slash, at one revision.
    pub(in crate::farm) async fn read_all(
        &mut self,
        name: &str,
    ) -> Result<FarmSnapshot, FarmError> {
        let mut snapshot = FarmSnapshot::default();
        self.read_range(&mut snapshot, name).await?;
        Ok(snapshot)
    }

    async fn read_range(
        &mut self,
        snapshot: &mut FarmSnapshot,
        name: &str,
    ) -> Result<(), FarmError> {
        let mut from = self.key(name).into_bytes();
        // The name ends in a slash, so its successor ends in the byte after that.
        let mut end = from.clone();
        end.pop();
        end.push(b'/' + 1);
        let (mut keys, mut bytes, mut limit) = (0, 0, PAGE);
        loop {
            let page = GetOptions::new()
                .with_range(end.as_slice())
                .with_limit(limit)
                .with_revision(snapshot.revision);
            let answer = match get(&mut self.client, &from, page).await {
                Ok(answer) => answer,
                Err(ReadError::TooLong) if limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                Err(ReadError::TooLong) => return Err(self.flooded(name)),
                Err(ReadError::Other(error)) => return Err(self.error(error)),
            };
            limit = PAGE.min(limit * 2);
            keys += answer.kvs().len();
            bytes += answer
                .kvs()
                .iter()
                .map(|pair| pair.key().len() + pair.value().len())
                .sum::<usize>();
            self.take(snapshot, &answer);
            let last = answer.kvs().last().filter(|_| answer.more());
            let Some(last) = last else { return Ok(()) };
            if keys >= MAX_KEYS || bytes >= MAX_BYTES {
                return Err(self.flooded(name));
            }
            from = [last.key(), &[0]].concat();
        }
    }

    fn take(&self, snapshot: &mut FarmSnapshot, answer: &GetResponse) {
        if snapshot.revision == 0 {
            // Revision 0 asks for the newest; later reads are of the same one.
            snapshot.revision = answer.header().map_or(0, ResponseHeader::revision);
        }
        for pair in answer.kvs() {
            snapshot.put(&self.codec, pair);
        }
    }

    fn flooded(&self, name: &str) -> FarmError {
        FarmError::Flooded {
            key: self.key(name),
            prefix: name.ends_with('/'),
        }
    }
}
