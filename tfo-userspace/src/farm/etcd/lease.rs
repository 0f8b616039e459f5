//! The lease of a host's session. etcd expires it after [`LEASE_TIME`] without a keep-alive.

use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::Instant;

use crate::farm::error::FarmError;

/// Time to live of a lease. etcd then elects another leader.
pub(in crate::farm) const LEASE_TIME: Duration = Duration::from_secs(15);

/// A lease that has to be kept alive.
pub(in crate::farm) struct Lease {
    pub(in crate::farm) id: i64,
    pub(in crate::farm) answers: LeaseKeepAliveStream,
    keeper: LeaseKeeper,
    asked: Instant,
    answered: Instant,
}

impl Lease {
    pub(super) fn new(id: i64, keeper: LeaseKeeper, answers: LeaseKeepAliveStream) -> Self {
        Self {
            id,
            answers,
            keeper,
            asked: Instant::now(),
            answered: Instant::now(),
        }
    }

    /// Sends a keep-alive where a third of the lease's time has passed since the last one.
    pub(in crate::farm) async fn keep(&mut self) -> Result<(), FarmError> {
        if self.answered.elapsed() > LEASE_TIME {
            return Err(FarmError::LeaseExpired);
        }
        if self.asked.elapsed() >= LEASE_TIME / 3 {
            self.asked = Instant::now();
            let asked = self.keeper.keep_alive().await;
            asked.map_err(|_| FarmError::LeaseExpired)?;
        }
        Ok(())
    }

    /// Takes etcd's answer, the seconds that the lease has left.
    pub(in crate::farm) fn handle_answer(&mut self, left: i64) -> Result<(), FarmError> {
        self.answered = Instant::now();
        if left > 0 {
            Ok(())
        } else {
            Err(FarmError::LeaseExpired)
        }
    }
}
