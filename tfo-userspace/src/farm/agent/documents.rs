//! The documents in etcd: taken, stored and offered to the keeper of the keys, or refused.

use etcd_client::WatchResponse;
use tracing::{error, info};

use super::Agent;
use crate::{
    farm::{
        admission::{Applicant, Refusal},
        document::Document,
        error::FarmError,
        etcd::Versioned,
        report::milliseconds,
        source::Offer,
        state_file::{StateFile, fresh_id},
    },
    kernel::clock::Now,
};

impl Agent {
    /// A challenge, where this host has stored no document.
    pub(super) fn new_challenge(&self) -> Result<Option<String>, FarmError> {
        Ok(match self.held {
            Some(_) => None,
            None => Some(fresh_id()?),
        })
    }

    /// Handles a message of the document's watch: each document in its turn, so that none that was put back is taken
    /// before those that came between.
    pub(super) fn handle_watch(&mut self, message: &WatchResponse) {
        for pair in message.events().iter().filter_map(|event| event.kv()) {
            // A removed key has version 0.
            let document = (pair.version() > 0).then(|| Versioned {
                value: pair.value().to_vec(),
                revision: pair.mod_revision(),
            });
            self.handle_document(document, true);
        }
    }

    /// Accepts the document in etcd, or reports why not. `is_new` is whether it was written just now.
    pub(super) fn handle_document(&mut self, document: Option<Versioned<Vec<u8>>>, is_new: bool) {
        (self.revision, self.applied_to) = (None, None);
        let result = match document {
            None => Err(FarmError::NoDocument(self.config.prefix.clone())),
            Some(Versioned { value, revision }) => self
                .accept(&value, is_new)
                .map(|()| self.revision = Some(revision)),
        };
        let problem = result.err();
        let text = problem.as_ref().map(ToString::to_string);
        match (&problem, &text) {
            (Some(FarmError::NotAdmitted { .. }), _) => {
                info!("farm: this host asks the leader to admit it");
            }
            (Some(problem), Some(text)) => {
                if !matches!(problem, FarmError::NoDocument(_)) {
                    self.report.change(|report| report.ignored += 1);
                }
                if self.quiet.allows(text, Now::read().boot) {
                    error!("farm: {text}; the keys stay as they are");
                }
            }
            _ => self.quiet.forget(),
        }
        let position = self.held.as_ref().map(|held| held.state.position);
        self.report.change(|report| {
            report.error = text;
            report.position = position;
        });
    }

    /// Stores a document and offers its keys, unless it is the one that is held.
    fn accept(&mut self, text: &[u8], is_new: bool) -> Result<(), FarmError> {
        let document = Document::read(text, self.seal.as_ref())
            .map_err(|error| FarmError::document(&self.config.prefix, error))?;
        if self.held.is_none() {
            self.reload();
        }
        let now = Now::read();
        if is_new && document.head.writer != self.config.host {
            let written = document.head.written.cast_signed();
            let skew = milliseconds(now.wall).cast_signed() - written;
            #[allow(
                clippy::cast_precision_loss,
                reason = "clocks differ by less than 2^53 ms"
            )]
            let skew = skew as f64 / 1000.0;
            self.report.change(|report| report.skew = Some(skew));
        }
        match self.applicant().judge(self.held.as_ref(), &document) {
            Ok(true) => self.store(text, document, now)?,
            Ok(false) => {}
            Err(refusal) => {
                if refusal == Refusal::NotAdmitted {
                    self.applied_to = Some(document.head);
                }
                let state = self.state_file.path().to_owned();
                return Err(FarmError::refusal(&self.config.prefix, state, refusal));
            }
        }
        Ok(())
    }

    /// Returns the facts by which this host judges documents.
    pub(super) fn applicant(&self) -> Applicant<'_> {
        Applicant {
            host: &self.config.host,
            challenge: self.challenge.as_deref(),
            least_epoch: self.config.least_epoch,
        }
    }

    /// Stores a document before it can come into force: one that is acknowledged must survive a crash.
    fn store(&mut self, text: &[u8], document: Document, now: Now) -> Result<(), FarmError> {
        let text = str::from_utf8(text).unwrap_or_default();
        self.state_file.write(Some(text))?;
        let position = self.held.as_ref().map(|held| held.state.position);
        if position != Some(document.state.position) {
            self.since = now.boot;
        }
        self.hold(document);
        Ok(())
    }

    fn hold(&mut self, document: Document) {
        self.channels.offer.send_replace(Some(Offer::of(&document)));
        self.held = Some(document);
        self.challenge = None;
    }

    /// `tfo farm init` stores the farm's first document on the host that founds it, where the service may run already. `true`
    /// if it has.
    pub(super) fn reload(&mut self) -> bool {
        let stored = StateFile::stored_document(&self.config, self.seal.as_ref());
        let found = stored.is_some();
        if let Some(document) = stored {
            self.hold(document);
        }
        found
    }
}
