//! Tells when the data path's copy of the routes has to be read again.

use std::time::{Duration, Instant};

use tracing::debug;

use crate::kernel::netlink::RouteNotices;

/// The time after which routes are read without a notice. IPv4 routes that go with their device have none, and the
/// notice of the device may come before they are gone.
const LONGEST: Duration = Duration::from_secs(5);

/// Watches the routes and devices of the namespace of the thread that made it.
pub(super) struct RouteWatch {
    /// `None` where rtnetlink gives none.
    notices: Option<RouteNotices>,
    /// The time at which routes were last read.
    read: Option<Instant>,
}

impl RouteWatch {
    pub(super) fn new() -> Self {
        let notices = RouteNotices::new();
        if let Err(error) = &notices {
            debug!("no notices of changed routes: {error}");
        }
        Self {
            notices: notices.ok(),
            read: None,
        }
    }

    /// Whether routes may have changed since the last call.
    pub(super) fn changed(&self) -> bool {
        let noticed = self
            .notices
            .as_ref()
            .is_none_or(|notices| notices.take().unwrap_or(true));
        noticed || self.read.is_none_or(|at| at.elapsed() >= LONGEST)
    }

    /// Records whether they were read.
    pub(super) fn record(&mut self, read: bool) {
        self.read = read.then(Instant::now);
    }
}
