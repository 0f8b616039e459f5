//! A namespace's process, from the service's side.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    helper::{NetnsHelper, Refusal},
    messages::{Answer, Ask, Failure, Report, Request, Scraped, SectionText, Status},
};
use crate::{
    kernel::netns::NetnsId,
    service::{listener_helper::ListenerHelper, mutex::lock},
};

/// The longest wait for metrics.
const SCRAPE: Duration = Duration::from_secs(5);
/// The longest wait for a process to detach and end, before its connection is cut.
const STOP: Duration = Duration::from_secs(20);

/// The reports of a process, and the callers that wait for its answers.
struct Shared {
    status: Mutex<Status>,
    /// The time of the last report.
    heard: Mutex<Instant>,
    /// `None` once the process ended.
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<Answer>>>>,
}

/// A handle to a process, for scrapes.
#[derive(Clone)]
pub(in crate::service) struct RemoteHandle {
    requests: mpsc::UnboundedSender<Request>,
    shared: Arc<Shared>,
    next: Arc<AtomicU64>,
}

/// A namespace's process. It ends with this.
pub(in crate::service) struct Remote {
    /// The namespace that it is in.
    pub(super) id: NetnsId,
    handle: RemoteHandle,
    reader: tokio::task::JoinHandle<()>,
    writer: tokio::task::JoinHandle<()>,
}

/// The sockets to a process that is to be made.
struct Sockets {
    ours: UnixStream,
    its: StdUnixStream,
    /// Those of the process to the helper for listeners.
    relayed: Option<(StdUnixStream, StdUnixStream)>,
}

impl Sockets {
    fn make(is_relayed: bool) -> io::Result<Self> {
        let (ours, its) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok(Self {
            ours: UnixStream::from_std(ours)?,
            its,
            relayed: is_relayed.then(StdUnixStream::pair).transpose()?,
        })
    }
}

impl Remote {
    /// Has `helper` make a process in the namespace at `path`.
    ///
    /// # Errors
    ///
    /// The helper ended.
    pub(super) fn start(
        helper: &NetnsHelper,
        path: &Path,
        listeners: Option<&ListenerHelper>,
    ) -> io::Result<Result<Self, Refusal>> {
        let made = Sockets::make(listeners.is_some());
        let Sockets { ours, its, relayed } = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(Refusal::no_socket(path, &error))),
        };
        let mut sockets = vec![its.as_fd()];
        sockets.extend(relayed.as_ref().map(|(_, its)| its.as_fd()));
        let id = match helper.open(path, &sockets as &[BorrowedFd<'_>])? {
            Ok(id) => id,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some((listeners, (ours, _))) = listeners.zip(relayed) {
            listeners.relay(ours)?;
        }
        let (read, write) = ours.into_split();
        let (requests, to_write) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            status: Mutex::new(Status::default()),
            heard: Mutex::new(Instant::now()),
            waiting: Mutex::new(Some(BTreeMap::new())),
        });
        Ok(Ok(Self {
            id,
            reader: tokio::spawn(read_reports(read, Arc::clone(&shared))),
            writer: tokio::spawn(write_requests(write, to_write)),
            handle: RemoteHandle {
                requests,
                shared,
                next: Arc::default(),
            },
        }))
    }

    pub(super) fn handle(&self) -> RemoteHandle {
        self.handle.clone()
    }

    /// Returns its last report.
    pub(super) fn status(&self) -> Status {
        lock(&self.handle.shared.status).clone()
    }

    /// The time since it last reported.
    pub(super) fn silent(&self) -> Duration {
        lock(&self.handle.shared.heard).elapsed()
    }

    /// The process ended.
    pub(super) fn has_ended(&self) -> bool {
        self.handle.has_ended()
    }

    /// Has it attach, or change to another configuration. `None` where it ended.
    pub(super) fn configure(
        &self,
        section: SectionText,
    ) -> impl Future<Output = Option<Result<(), Failure>>> + Send + use<> {
        let answer = self.handle.ask(Ask::Configure(section));
        async move {
            match answer.await? {
                Answer::Configured(result) => Some(result),
                _ => None,
            }
        }
    }

    /// Ends it; with `detach`, detaches from all interfaces first.
    pub(super) async fn stop(self, detach: bool) {
        // One that does not answer is cut off, by which it ends.
        let _ = timeout(STOP, self.handle.ask(Ask::Stop { detach })).await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Handles for scrapes do not keep the connection.
        self.reader.abort();
        self.writer.abort();
        *lock(&self.handle.shared.waiting) = None;
    }
}

impl RemoteHandle {
    fn ask(&self, ask: Ask) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = lock(&self.shared.waiting).as_mut() {
            waiting.insert(id, sender);
            // Where that fails, the process ends, and the sender with it.
            let _ = self.requests.send(Request { id, ask });
        }
        async move { receiver.await.ok() }
    }

    /// Its metrics; `None` where it does not answer.
    pub(in crate::service) async fn scrape(&self, ports: Vec<u16>) -> Option<Scraped> {
        match timeout(SCRAPE, self.ask(Ask::Scrape { ports })).await {
            Ok(Some(Answer::Scraped(scraped))) => Some(scraped),
            _ => None,
        }
    }

    /// The process ended.
    pub(in crate::service) fn has_ended(&self) -> bool {
        lock(&self.shared.waiting).is_none()
    }

    /// An interface is attached.
    pub(in crate::service) fn is_attached(&self) -> bool {
        !lock(&self.shared.status).attached.is_empty()
    }
}

async fn read_reports(read: OwnedReadHalf, shared: Arc<Shared>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(report) = serde_json::from_str(&line) else {
            break;
        };
        *lock(&shared.heard) = Instant::now();
        match report {
            Report::Status(status) => *lock(&shared.status) = status,
            Report::Answer(id, answer) => {
                let waiting = lock(&shared.waiting)
                    .as_mut()
                    .and_then(|all| all.remove(&id));
                if let Some(waiting) = waiting {
                    // Who asked may have given up.
                    let _ = waiting.send(answer);
                }
            }
        }
    }
    *lock(&shared.waiting) = None;
}

async fn write_requests(mut write: OwnedWriteHalf, mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = requests.recv().await {
        let Ok(mut line) = serde_json::to_vec(&request) else {
            return;
        };
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}
