//! A fact about the running kernel that is costly to find.

use std::sync::{Mutex, OnceLock, PoisonError};

/// A value that the first who needs it reads, for all threads. A failure is not kept, since it may be for want of memory or of
/// file descriptors: the next one tries again.
pub(crate) struct Once<T> {
    value: OnceLock<T>,
    reading: Mutex<()>,
}

impl<T> Once<T> {
    /// Not read yet.
    pub(crate) const fn new() -> Self {
        Self {
            value: OnceLock::new(),
            reading: Mutex::new(()),
        }
    }

    /// Returns the value, calling `read` if nobody has read it yet. Others wait meanwhile.
    ///
    /// # Errors
    ///
    /// The error of `read`.
    pub(crate) fn get<E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let value = read()?;
        Ok(self.value.get_or_init(|| value))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use super::*;

    #[test]
    fn a_value_is_read_once_and_a_failure_again() {
        static ONCE: Once<u32> = Once::new();
        assert_eq!(ONCE.get(|| Err("no memory")), Err("no memory"));
        let (reads, barrier) = (AtomicU32::new(0), Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let read = || Ok::<_, ()>(reads.fetch_add(1, Ordering::Relaxed) + 7);
                    assert_eq!(ONCE.get(read), Ok(&7));
                });
            }
        });
        assert_eq!(reads.into_inner(), 1);
    }
}
