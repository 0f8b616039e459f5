//! The thread that reads a namespace's facts for metrics. It takes no lock of pins, and so an answer waits neither for
//! one nor for the worker, which may.

use std::{io, thread};

use tokio::sync::{mpsc, oneshot};

use crate::{
    datapath::Namespace,
    metrics::{self, NamespaceFacts, ScrapeTarget},
};

struct Request {
    target: ScrapeTarget,
    answer: oneshot::Sender<NamespaceFacts>,
}

/// A handle to the thread, which ends with the last handle.
#[derive(Clone)]
pub(super) struct Scraper(mpsc::UnboundedSender<Request>);

impl Scraper {
    /// Starts the thread, in the calling thread's namespace, which `namespace` must be, and with its capabilities.
    ///
    /// # Errors
    ///
    /// The thread or its runtime cannot be made.
    pub(super) fn start(namespace: Namespace) -> io::Result<Self> {
        let (requests, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("tfo-metrics".to_owned())
            .spawn(move || runtime.block_on(serve(&namespace, received)))?;
        Ok(Self(requests))
    }

    /// Reads the facts; `None` where the thread ended.
    pub(super) async fn read(&self, target: ScrapeTarget) -> Option<NamespaceFacts> {
        let (answer, facts) = oneshot::channel();
        self.0.send(Request { target, answer }).ok()?;
        facts.await.ok()
    }
}

async fn serve(namespace: &Namespace, mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(Request { target, answer }) = requests.recv().await {
        // The receiver may be gone.
        let _ = answer.send(metrics::read(namespace, &target).await);
    }
}
