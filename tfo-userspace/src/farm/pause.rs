//! Pauses between two connections to etcd.

use std::time::Duration;

use tokio::time::sleep;

/// Half of `longest` at least; the rest is random: the hosts of a farm must not reconnect all at once.
pub(super) async fn pause(longest: Duration) {
    let share = getrandom::u32().unwrap_or(u32::MAX);
    sleep(longest.mul_f64(0.5 + 0.5 * f64::from(share) / f64::from(u32::MAX))).await;
}
