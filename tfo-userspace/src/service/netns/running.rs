//! A namespace's process, from when it was made until it has ended.

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use super::{messages::Failure, remote::Remote, scan::Found};
use crate::kernel::netns::NetnsId;

/// The process, and what became of its first attempt to attach.
pub(super) struct Running {
    pub(super) found: Found,
    pub(super) remote: Remote,
    starting: Option<JoinHandle<Option<Result<(), Failure>>>>,
    failed: bool,
}

/// A process that was told to end.
pub(super) struct Ending {
    pub(super) id: NetnsId,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    pub(super) const fn new(
        found: Found,
        remote: Remote,
        starting: JoinHandle<Option<Result<(), Failure>>>,
    ) -> Self {
        Self {
            found,
            remote,
            starting: Some(starting),
            failed: false,
        }
    }

    /// The first attempt has no result that was taken.
    pub(super) const fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Takes the result of the first attempt, once it is there; `None` also where the process ended without one.
    pub(super) fn take_result(&mut self) -> Option<Result<(), Failure>> {
        let finished = self.starting.take_if(|starting| starting.is_finished())?;
        let result = finished.now_or_never()?.ok()??;
        self.failed = result.is_err();
        Some(result)
    }

    /// It ended, and its result was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.remote.has_ended() && !self.is_starting()
    }

    /// It could not begin, and has told why.
    pub(super) fn has_told(&self) -> bool {
        self.failed && self.remote.status().attached.is_empty()
    }
}
