//! The metrics server: HTTP/1, with bounds on connections, time and memory.

use std::{collections::VecDeque, convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    facts::ServiceFacts,
    handlers::Handlers,
    listener::{ListenError, Listener, Stream},
};
use crate::model::ListenAddress;

/// Most connections at a time. One more closes the oldest: a client that sends its request is served in
/// milliseconds, so the oldest connections are idle ones.
const MAX_CONNECTIONS: usize = 16;
/// Time for a client to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a connection, which carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head: the least that hyper allows.
const MAX_HEAD_LEN: usize = 8 << 10;
/// Pause after accept(2) failed for lack of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listening server. It answers requests once [`Server::serve`] runs.
pub struct Server(Listener);

impl Server {
    /// Listens, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`ListenError`] where the address is taken or cannot be bound.
    pub async fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        Listener::bind(address).await.map(Self)
    }

    /// The address, with the port that the kernel chose where 0 was asked for.
    ///
    /// # Errors
    ///
    /// getsockname(2) failed.
    pub fn address(&self) -> io::Result<ListenAddress> {
        self.0.address()
    }

    /// Serves the facts that `facts` reads, at most once a second, for ever. Dropping the future closes all
    /// connections and removes the file of a UNIX socket.
    pub async fn serve<F, R>(self, facts: F) -> Infallible
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = ServiceFacts> + Send + 'static,
    {
        let handlers = Arc::new(Handlers::new(facts));
        let mut connections = Connections::default();
        loop {
            match self.0.accept().await {
                Ok(stream) => connections.add(connection(stream, Arc::clone(&handlers))),
                Err(error) => {
                    warn!("metrics: cannot accept a connection: {error}");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Serves one request.
async fn connection<F, R>(stream: Box<dyn Stream>, handlers: Arc<Handlers<F>>)
where
    F: Fn() -> R,
    R: Future<Output = ServiceFacts>,
{
    let service = service_fn(|request| handlers.answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client's errors are not logged: it could fill the log with them.
    drop(timeout(CONNECTION_TIMEOUT, connection).await);
}

/// The open connections, oldest first. Closed on drop.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|task| !task.is_finished());
        while self.open.len() >= MAX_CONNECTIONS {
            self.open.pop_front().inspect(AbortHandle::abort);
        }
        self.open.push_back(self.tasks.spawn(connection));
    }
}
