//! The process of one network namespace: a thread inside, which does the work ([`Worker`]), and the main thread, which stays
//! in the service's namespace, where the farm's etcd is, and answers the service.
//!
//! It ends with its connection to the service, whatever the thread inside does at that moment; so a namespace whose process
//! has ended is held by nothing of the service's.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    process,
    sync::{Arc, OnceLock, mpsc as blocking},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::thread::set_name;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender, WeakUnboundedSender},
        oneshot,
    },
    time::{MissedTickBehavior, interval},
};
use tracing::error;

use super::{
    messages::{Answer, Ask, Failure, Report, Request, Scraped, SectionText, Status},
    parent::die_with,
};
use crate::{
    config::{ConfigSource, NamespaceConfig},
    kernel::{
        netns::{NetnsError, NetnsFile},
        refusal::with_limit,
    },
    metrics,
    service::{
        capabilities,
        error::StartError,
        listener_helper::ListenerHelper,
        memory,
        worker::{ThreadWork, Worker, WorkerHandle},
    },
};

/// The interval at which the status is sent, where it changed.
const TICK: Duration = Duration::from_millis(500);
/// The status is sent after so many ticks in any case, as a sign of life.
const TICKS: u32 = 10;

/// A thread inside the namespace that waits for its work.
struct Inside {
    work: blocking::Sender<ThreadWork>,
    thread: JoinHandle<()>,
}

impl Inside {
    /// Starts the thread. It has entered the namespace and dropped capabilities before it gets work.
    fn start(netns: NetnsFile) -> io::Result<Result<Self, NetnsError>> {
        let (work, received) = blocking::channel::<ThreadWork>();
        let (entered, entering) = blocking::channel();
        let thread = thread::Builder::new().name("tfo-namespace".to_owned());
        let thread = thread.spawn(move || {
            let result = netns.enter();
            drop(netns);
            let ready = result.is_ok();
            let dropped = capabilities::drop_others().map(drop);
            // The receiver waits.
            let _ = entered.send(dropped.map(|()| result));
            if let Some(work) = ready.then(|| received.recv().ok()).flatten() {
                work();
            }
        })?;
        let result = entering
            .recv()
            .unwrap_or(Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(result.map(|()| Self { work, thread }))
    }

    fn run(self, work: ThreadWork) -> io::Result<JoinHandle<()>> {
        let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.work.send(work).map_err(ended)?;
        Ok(self.thread)
    }
}

/// Is the process. `sockets` lead to the service, and by way of it to the helper for listeners; `parent` made this process
/// for `service`.
///
/// # Errors
///
/// The connection ended, or the process cannot be set up.
pub(super) fn run(
    netns: NetnsFile,
    sockets: Vec<OwnedFd>,
    source: &ConfigSource,
    parent: u32,
    service: u32,
) -> io::Result<()> {
    die_with(parent)?;
    set_name(c"tfo-inside")?;
    let mut sockets = sockets.into_iter().map(StdUnixStream::from);
    let stream = sockets.next().ok_or(io::ErrorKind::NotConnected)?;
    let listeners = sockets.next().map(ListenerHelper::through).transpose()?;
    let inside = Inside::start(netns)?;
    capabilities::drop_others()?;
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let handle = Arc::new(OnceLock::new());
        let (reports, to_write) = mpsc::unbounded_channel();
        let (commands, received) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_reports(write, to_write));
        tokio::spawn(read_requests(
            read,
            commands,
            // The writer ends with the last sender, and with it the process.
            reports.downgrade(),
            Arc::clone(&handle),
        ));
        let process = Process {
            source: source.clone(),
            service,
            handle,
            listeners,
            reports,
            received,
        };
        process.serve(inside).await;
        // Ends with the last report.
        writer.await.map_err(io::Error::other)
    })
}

/// Ends the process at the end of the connection.
async fn read_requests(
    read: OwnedReadHalf,
    commands: UnboundedSender<Request>,
    reports: WeakUnboundedSender<Report>,
    handle: Arc<OnceLock<WorkerHandle>>,
) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(request) = serde_json::from_str::<Request>(&line) else {
            break;
        };
        match request.ask {
            // Answered beside commands, which may wait for a lock.
            Ask::Scrape { ports } => {
                let Some(reports) = reports.upgrade() else {
                    continue;
                };
                let handle = handle.get().cloned();
                tokio::spawn(async move {
                    let scraped = scrape(handle, ports).await;
                    // The receiver may be gone.
                    let _ = reports.send(Report::Answer(request.id, Answer::Scraped(scraped)));
                });
            }
            _ => drop(commands.send(request)),
        }
    }
    process::exit(0);
}

async fn write_reports(mut write: OwnedWriteHalf, mut reports: UnboundedReceiver<Report>) {
    while let Some(report) = reports.recv().await {
        let Ok(mut line) = serde_json::to_vec(&report) else {
            return;
        };
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn scrape(handle: Option<WorkerHandle>, ports: Vec<u16>) -> Scraped {
    // It was made this instant, and knows nothing of its namespace.
    let Some(handle) = handle else {
        return Scraped::default();
    };
    let facts = [handle.facts(ports).await];
    Scraped {
        metrics: metrics::render_namespaces(&facts),
        wrong: metrics::health(&facts).err(),
    }
}

/// The main thread's state.
struct Process {
    source: ConfigSource,
    /// The service's process id.
    service: u32,
    handle: Arc<OnceLock<WorkerHandle>>,
    listeners: Option<ListenerHelper>,
    reports: UnboundedSender<Report>,
    received: UnboundedReceiver<Request>,
}

impl Process {
    fn answer(&self, id: u64, answer: Answer) {
        // The receiver may be gone, and the process with it.
        let _ = self.reports.send(Report::Answer(id, answer));
    }

    fn pick(&self, section: &SectionText) -> Result<NamespaceConfig, Failure> {
        let config = self.source.parse(&section.text);
        let picked = config.map(|config| section.pick(config));
        let fail = |text| Failure {
            text,
            logged: false,
        };
        picked
            .map_err(|error| fail(error.to_string()))?
            .ok_or_else(|| fail(format!("no section {}", section.section)))
    }

    /// Until the service stops it.
    async fn serve(mut self, inside: Result<Inside, NetnsError>) {
        let Some(Request {
            id,
            ask: Ask::Configure(section),
        }) = self.received.recv().await
        else {
            return;
        };
        let started = inside
            .map_err(|error| Failure::from(StartError::from(error)))
            .and_then(|inside| self.start(&section, inside));
        match started {
            Err(failure) => self.answer(id, Answer::Configured(Err(failure))),
            Ok((worker, started)) => {
                let _ = self.handle.set(worker.handle());
                let reports = self.reports.clone();
                let name = section.name;
                tokio::spawn(async move {
                    let result = started.await.unwrap_or(Err(StartError::Thread(name)));
                    memory::release_unused();
                    let answer = Answer::Configured(result.map_err(Failure::from));
                    // The receiver may be gone.
                    let _ = reports.send(Report::Answer(id, answer));
                });
                self.serve_worker(worker).await;
            }
        }
    }

    fn start(
        &mut self,
        section: &SectionText,
        inside: Inside,
    ) -> Result<(Worker, oneshot::Receiver<Result<(), StartError>>), Failure> {
        let config = self.pick(section)?;
        let (listeners, scraped) = (self.listeners.take(), section.scraped);
        let started = Worker::start(config, self.service, scraped, listeners, |work| {
            inside.run(work)
        });
        started.map_err(|error| Failure {
            text: with_limit(format!("cannot start a thread: {error}")),
            logged: false,
        })
    }

    async fn serve_worker(&mut self, worker: Worker) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (Status::default(), 0);
        loop {
            tokio::select! {
                request = self.received.recv() => match request {
                    None => return,
                    Some(Request { id, ask: Ask::Stop { detach } }) => {
                        worker.stop(detach).await;
                        return self.answer(id, Answer::Stopped);
                    }
                    Some(Request { id, ask: Ask::Configure(section) }) => {
                        let picked = self.pick(&section);
                        match picked {
                            Ok(config) => worker.apply(config).await,
                            Err(failure) => error!("not reloaded: {}", failure.text),
                        }
                        self.report_status(&worker, &mut last);
                        self.answer(id, Answer::Configured(Ok(())));
                    }
                    // Answered where it was read.
                    Some(Request { ask: Ask::Scrape { .. }, .. }) => {}
                },
                _ = ticks.tick() => self.report_status(&worker, &mut last),
            }
        }
    }

    fn report_status(&self, worker: &Worker, (last, since): &mut (Status, u32)) {
        let state = worker.state();
        // A thread that hangs is to be seen by the service.
        let lives = state.at.elapsed() < TICK * TICKS;
        let status = Status::from(state);
        *since += 1;
        if status == *last && (*since < TICKS || !lives) {
            return;
        }
        let _ = self.reports.send(Report::Status(status.clone()));
        (*last, *since) = (status, 0);
    }
}
