//! The handlers of HTTP requests.

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

use super::{facts::ServiceFacts, health::health_of_service, render::render};

/// The time for which a scrape is reused: clients have the maps read once in it, however many they are.
const MAX_AGE: Duration = Duration::from_secs(1);

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus's text format.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const LANDING: &str = concat!(
    "<!DOCTYPE html><html lang=\"en\"><title>tfo</title><h1>tfo ",
    env!("CARGO_PKG_VERSION"),
    "</h1><p>TCP Fast Open on this host's interfaces.</p><ul>",
    "<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>",
    "<li><a href=\"/healthz\">/healthz</a>: whether all is well</li></ul></html>\n"
);

/// The handlers of all paths. `facts` reads the facts of all namespaces.
pub(super) struct Handlers<F> {
    facts: F,
    last: Mutex<Option<Arc<Scrape>>>,
}

/// The answers made of one reading of the facts.
struct Scrape {
    at: Instant,
    metrics: Bytes,
    health: Result<(), String>,
}

type Answer = Response<Full<Bytes>>;

impl<F, R> Handlers<F>
where
    F: Fn() -> R,
    R: Future<Output = ServiceFacts>,
{
    pub(super) fn new(facts: F) -> Self {
        Self {
            facts,
            last: Mutex::new(None),
        }
    }

    /// The last scrape where it is recent, or a new one. Concurrent requests wait for the same scrape.
    async fn scrape(&self) -> Arc<Scrape> {
        let mut last = self.last.lock().await;
        if let Some(scrape) = last.as_ref().filter(|it| it.at.elapsed() < MAX_AGE) {
            return Arc::clone(scrape);
        }
        let facts = (self.facts)().await;
        let scrape = Arc::new(Scrape {
            at: Instant::now(),
            metrics: render(&facts).into(),
            health: match facts.starting {
                Some([tried, all]) => Err(format!("starting: {tried} of {all}\n")),
                None => health_of_service(&facts),
            },
        });
        *last = Some(Arc::clone(&scrape));
        scrape
    }

    /// Answers a request. Headers and body are ignored.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, "GET or HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, allowed);
            return Ok(answer);
        }
        Ok(match request.uri().path() {
            "/" => answer(StatusCode::OK, "text/html; charset=utf-8", LANDING),
            "/metrics" => answer(
                StatusCode::OK,
                METRICS_TEXT,
                self.scrape().await.metrics.clone(),
            ),
            "/healthz" => match &self.scrape().await.health {
                Ok(()) => answer(StatusCode::OK, PLAIN_TEXT, "ok\n"),
                Err(errors) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN_TEXT, errors.clone()),
            },
            _ => answer(
                StatusCode::NOT_FOUND,
                PLAIN_TEXT,
                "not found; the paths are /, /metrics and /healthz\n",
            ),
        })
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
