//! Errors that may come with each tick.

use tracing::error;

/// Logs `error`, of `what`, unless it is the last one again, and remembers it in `last`.
pub(super) fn log_new(last: &mut Option<String>, what: &str, error: Option<String>) {
    if let Some(text) = error.as_ref().filter(|_| error != *last) {
        error!("{what}: {text}");
    }
    *last = error;
}
