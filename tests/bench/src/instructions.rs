//! Instructions retired, as the CPU counts them for `perf_event_open`(2).

use std::cell::RefCell;

use anyhow::{Context as _, Result};
use perf_event::{Builder, Counter, events::Hardware};

thread_local! {
    /// The calling thread's; `None` where it cannot be had.
    static COUNTER: RefCell<Option<Counter>> = RefCell::new(open().ok());
}

/// Opens and starts a counter of the calling thread, in the kernel too: that is where programs run.
fn open() -> Result<Counter> {
    let mut builder = Builder::new().kind(Hardware::INSTRUCTIONS);
    builder.include_kernel();
    let counter = builder.build();
    let mut counter = counter.context(
        "the machine does not count instructions for perf_event_open(2), as most virtual machines",
    )?;
    counter.enable()?;
    Ok(counter)
}

/// Why the machine does not count them.
pub(crate) fn can_be_counted() -> Result<()> {
    open().map(drop)
}

/// Instructions retired by the calling thread so far; `None` where they are not counted.
pub(crate) fn retired() -> Option<u64> {
    COUNTER.with_borrow_mut(|counter| counter.as_mut()?.read().ok())
}
