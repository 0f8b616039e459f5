//! Messages between the service and a namespace's process: one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, NamespaceConfig},
    kernel::refusal::with_limit,
    service::{error::StartError, worker::WorkerState},
};

/// A request of the service.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The answer has the same number.
    pub(super) id: u64,
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Attach, or change to another configuration.
    Configure(SectionText),
    /// Give the metrics and what is wrong.
    Scrape { ports: Vec<u16> },
    /// End; with `detach`, detach from all interfaces first.
    Stop { detach: bool },
}

/// A section of the configuration. The text is checked already: the service sends it rather than what it has parsed, so that
/// a new key of the configuration is no new message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SectionText {
    /// The whole file.
    pub(super) text: String,
    /// The `name` of the section.
    pub(super) section: String,
    /// The namespace, which differs where the section's is a pattern.
    pub(super) name: String,
    /// Metrics are served.
    pub(super) scraped: bool,
}

impl SectionText {
    /// The section in the configuration that was made of the text.
    pub(super) fn pick(&self, config: Config) -> Option<NamespaceConfig> {
        let mut sections = config.namespaces.into_iter();
        let section = sections.find(|each| each.name.as_ref() == Some(&self.section))?;
        Some(if section.pattern.is_some() {
            section.of_match(&self.name)
        } else {
            section
        })
    }
}

/// A message of a namespace's process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Status(Status),
    Answer(u64, Answer),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The first attempt to attach, or that a change was applied.
    Configured(Result<(), Failure>),
    Scraped(Scraped),
    Stopped,
}

/// Why nothing is attached yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::service) struct Failure {
    pub(in crate::service) text: String,
    /// The follower of interfaces logs that one does not exist.
    pub(in crate::service) logged: bool,
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self {
            logged: error.is_missing_interface(),
            text: with_limit(error.to_string()),
        }
    }
}

/// The metrics of one namespace, and what is wrong there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::service) struct Scraped {
    /// In Prometheus's text format.
    pub(in crate::service) metrics: String,
    /// Lines of `/healthz`; `None` where all is well.
    pub(in crate::service) wrong: Option<String>,
}

/// The state of a namespace for the status line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::service) struct Status {
    /// The attached interfaces.
    pub(in crate::service) attached: Vec<String>,
    /// The configured interfaces that are not attached.
    pub(in crate::service) missing: Vec<String>,
    /// The source of the keys.
    pub(in crate::service) source: String,
    /// The fingerprint of the primary key.
    pub(in crate::service) primary: Option<String>,
    /// The keys could not be changed.
    pub(in crate::service) key_error: bool,
}

impl From<WorkerState> for Status {
    fn from(state: WorkerState) -> Self {
        Self {
            attached: state.attached,
            missing: state.missing.into_keys().collect(),
            source: state.keys.source.to_owned(),
            primary: state.keys.primary.map(|key| key.to_string()),
            key_error: state.keys.last_error.is_some(),
        }
    }
}
