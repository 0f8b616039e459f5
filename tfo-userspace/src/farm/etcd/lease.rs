//! A lease, which etcd ends when it has not heard of this host for too long.

use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::Instant;

use crate::farm::FarmError;

/// How long a host may be silent until etcd takes it for dead, and another one leads.
pub(in crate::farm) const LEASE: Duration = Duration::from_secs(15);

/// A lease that has to be kept alive.
pub(in crate::farm) struct Lease {
    pub(in crate::farm) id: i64,
    pub(in crate::farm) answers: LeaseKeepAliveStream,
    keeper: LeaseKeeper,
    asked: Instant,
    heard: Instant,
}

impl Lease {
    pub(super) fn new(id: i64, keeper: LeaseKeeper, answers: LeaseKeepAliveStream) -> Self {
        Self {
            id,
            answers,
            keeper,
            asked: Instant::now(),
            heard: Instant::now(),
        }
    }

    /// Asks for more time, when a third of it is over.
    pub(in crate::farm) async fn keep(&mut self) -> Result<(), FarmError> {
        if self.heard.elapsed() > LEASE {
            return Err(FarmError::Lease);
        }
        if self.asked.elapsed() >= LEASE / 3 {
            self.asked = Instant::now();
            let asked = self.keeper.keep_alive().await;
            asked.map_err(|_| FarmError::Lease)?;
        }
        Ok(())
    }

    /// Takes an answer: the seconds that are left.
    pub(in crate::farm) fn heard(&mut self, left: i64) -> Result<(), FarmError> {
        self.heard = Instant::now();
        if left > 0 {
            Ok(())
        } else {
            Err(FarmError::Lease)
        }
    }
}
