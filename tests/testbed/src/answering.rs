//! Servers that say who they are.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::socket::Listener;

/// Runs `work` while each of the listeners answers every request of every connection with its name.
///
/// # Errors
///
/// Those of `work`, or a connection cannot be accepted.
pub fn answering<T>(
    listeners: impl IntoIterator<Item = (String, Listener)>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let blocking = |(name, listener): (String, Listener)| Ok((name, listener.blocking()?));
    let listeners = listeners.into_iter().map(blocking);
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = listeners
            .iter()
            .map(|(name, listener)| scope.spawn(|| serve(listener, name, &ended)))
            .collect();
        let done = work();
        ended.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        done
    })
}

fn serve(listener: &TcpListener, name: &str, ended: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut open = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                open.push(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; 256];
        open.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(_) => stream.write_all(name.as_bytes()).is_ok(),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
    Ok(())
}
