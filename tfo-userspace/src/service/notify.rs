//! Notifications to systemd: `sd_notify(3)`. Without `NOTIFY_SOCKET` they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Time that systemd grants for the next namespace.
const NEXT_NAMESPACE: Duration = Duration::from_secs(60);

/// The service has tried to attach in so many of all namespaces. Extends the time-out of the start.
pub(super) fn starting(tried: usize, all: usize) {
    let status = format!("starting: {tried} of {all}");
    notify(&[
        NotifyState::Status(&status),
        NotifyState::ExtendTimeoutUsec(NEXT_NAMESPACE.as_micros() as u32),
    ]);
}

pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    if let Ok(now) = now {
        notify(&[NotifyState::Reloading, now]);
    }
}

pub(super) fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

pub(super) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The watchdog timeout; `None` where systemd has none set.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("cannot notify systemd: {error}");
    }
}
