//! What is answered to a request.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::sync::Mutex;

use super::{NamespaceFacts, health, render};

/// How long an answer is given again. However often and by however many it is asked for, the maps are
/// read once in that time.
const FRESH: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus goes by this.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const LANDING: &str = concat!(
    "<!DOCTYPE html><html lang=\"en\"><title>tfo</title><h1>tfo ",
    env!("CARGO_PKG_VERSION"),
    "</h1><p>TCP Fast Open on this host's interfaces.</p><ul>",
    "<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>",
    "<li><a href=\"/healthz\">/healthz</a>: whether all is well</li></ul></html>\n"
);

/// All that is served, from one source of facts.
pub(super) struct Pages<F> {
    facts: F,
    last: Mutex<Option<Arc<Scrape>>>,
}

/// Everything that was read at one time.
struct Scrape {
    at: Instant,
    metrics: Bytes,
    health: Result<(), String>,
}

type Answer = Response<Full<Bytes>>;

impl<F, R> Pages<F>
where
    F: Fn() -> R,
    R: Future<Output = Vec<NamespaceFacts>>,
{
    pub(super) fn new(facts: F) -> Self {
        Self {
            facts,
            last: Mutex::new(None),
        }
    }

    /// The last scrape, if it is fresh, or a new one. Whoever asks meanwhile waits for the same.
    async fn scrape(&self) -> Arc<Scrape> {
        let mut last = self.last.lock().await;
        if let Some(scrape) = last.as_ref().filter(|it| it.at.elapsed() < FRESH) {
            return Arc::clone(scrape);
        }
        let facts = (self.facts)().await;
        let scrape = Arc::new(Scrape {
            at: Instant::now(),
            metrics: render(&facts).into(),
            health: health(&facts),
        });
        *last = Some(Arc::clone(&scrape));
        scrape
    }

    /// Answers a request. What the request carries beside its first line is not read.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, allowed);
            return Ok(answer);
        }
        Ok(match request.uri().path() {
            "/" => answer(StatusCode::OK, "text/html; charset=utf-8", LANDING),
            "/metrics" => answer(StatusCode::OK, METRICS, self.scrape().await.metrics.clone()),
            "/healthz" => match &self.scrape().await.health {
                Ok(()) => answer(StatusCode::OK, TEXT, "ok\n"),
                Err(wrong) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, wrong.clone()),
            },
            _ => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /, /metrics and /healthz\n",
            ),
        })
    }
}

fn answer(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
