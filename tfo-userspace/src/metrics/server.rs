//! The server of metrics: HTTP/1, bounded whatever clients do.

use std::{collections::VecDeque, convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    Listen, ListenError, NamespaceFacts,
    listen::{Listener, Stream},
    pages::Pages,
};

/// Most connections at a time. Where there is one more, the oldest is closed: one that asks and reads is
/// served in milliseconds, so that the oldest are those that do not.
const MOST_CONNECTIONS: usize = 16;
/// How long a client may take to send its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// How long a connection may last. Each has one request.
const LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head; it is the least that hyper takes.
const HEAD_SIZE: usize = 8 << 10;
/// How long to wait where a connection cannot be accepted, for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and answers once [`Server::serve`] runs.
pub struct Server(Listener);

impl Server {
    /// Listens, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`ListenError`] where the address is taken, or may not be had.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        Listener::bind(listen).await.map(Self)
    }

    /// Where it listens; the port too, where 0 was asked for.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<Listen> {
        self.0.address()
    }

    /// Serves for ever what `facts` gives, which is asked at most once a second. Dropped, it closes all
    /// connections, and removes the socket of a path.
    pub async fn serve<F, R>(self, facts: F) -> Infallible
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Vec<NamespaceFacts>> + Send + 'static,
    {
        let pages = Arc::new(Pages::new(facts));
        let mut connections = Connections::default();
        loop {
            match self.0.accept().await {
                Ok(stream) => connections.add(connection(stream, Arc::clone(&pages))),
                Err(error) => {
                    warn!("metrics: cannot accept a connection: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One request and its answer.
async fn connection<F, R>(stream: Box<dyn Stream>, pages: Arc<Pages<F>>)
where
    F: Fn() -> R,
    R: Future<Output = Vec<NamespaceFacts>>,
{
    let service = service_fn(|request| pages.answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever a client does wrong is its own affair: there is no one to tell.
    drop(timeout(LIMIT, connection).await);
}

/// The open ones, oldest first. Closed on drop.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|task| !task.is_finished());
        while self.open.len() >= MOST_CONNECTIONS {
            self.open.pop_front().inspect(AbortHandle::abort);
        }
        self.open.push_back(self.tasks.spawn(connection));
    }
}
