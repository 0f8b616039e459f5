//! What systemd is told: `sd_notify(3)`. Without `NOTIFY_SOCKET` nothing is.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    if let Ok(now) = now {
        tell(&[NotifyState::Reloading, now]);
    }
}

pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// After which silence systemd takes the service for dead; `None` where it does not.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("cannot tell systemd: {error}");
    }
}
