//! The farm's document: its state, for all hosts. etcd and the disk of each host hold the same text.
//!
//! Anyone may read the head, which holds fingerprints and no key. The keys are sealed under a key that the hosts have
//! and the operators of etcd do not; the head is the additional authenticated data, so that it cannot be combined
//! with other keys. A farm without a seal stores the keys in the clear.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use tfo_common::fastopen::Key;
use zeroize::Zeroizing;

use super::{
    phase::{FarmState, Phase, Position},
    seal::{FORMAT, open, seal},
};
use crate::{
    keys::{GivenSecrets, Secret},
    model::Fingerprint,
};

/// The format before sealed records. A host still reads it from its disk.
const EARLIER: u32 = 1;
/// Most bytes of a document.
const MAX_DOCUMENT: usize = 1 << 20;
/// Most characters of the cause why a text is no document.
const MAX_CAUSE: usize = 200;
/// Most hosts in a document, those left behind included.
pub(super) const MAX_HOSTS: usize = 4096;

/// Why a document is refused. It is left alone, and the keys in force stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not a document; the text says why.
    #[error(
        "it is no farm's document ({0}): check the prefix, or replace it: `tfo farm init --replace`"
    )]
    Foreign(String),
    /// The format of an earlier version of `tfo`.
    #[error(
        "it has format {EARLIER}, of an earlier tfo: once all hosts run this version, run `tfo farm init --replace` on one of them"
    )]
    Earlier,
    /// A format of a later version of `tfo`.
    #[error("it has format {0}, and this tfo reads format {FORMAT}: upgrade tfo on this host")]
    Format(u32),
    /// The keys are sealed, and this host has no seal.
    #[error(
        "its keys are sealed: configure the farm's seal, as in [farm] seal = \"/etc/tfo/seal\""
    )]
    Sealed,
    /// The keys are not sealed although this host has a seal: anybody may have written them.
    #[error(
        "its keys are not sealed, and this host has a seal: seal them with `tfo farm init --replace`, or remove the seal from [farm]"
    )]
    NotSealed,
    /// The authentication of the keys and the head failed.
    #[error(
        "its keys cannot be opened with this host's seal: the farm has another seal, or the document was changed"
    )]
    Seal,
    /// The keys do not match the fingerprints in the head.
    #[error(
        "its keys do not match its fingerprints: it was changed; replace it: `tfo farm init --replace`"
    )]
    Fingerprints,
    /// getrandom(2) failed.
    #[error("cannot make a nonce: getrandom(2): {0}")]
    Random(String),
}

/// The part of a document that anyone may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentHead {
    /// The version of the document's format.
    pub format: u32,
    /// A random identifier of the farm.
    pub farm: String,
    /// The number of the key that hosts issue.
    pub epoch: u64,
    /// The phase of that epoch.
    pub phase: Phase,
    /// The number of the document. It rises with each one; no host goes back at the same position.
    pub serial: u64,
    /// A random identifier of the leader's term. Acknowledgements name it: those of an earlier term do not count.
    pub term: String,
    /// The time at which the farm entered the phase, in milliseconds since 1970 by the writer's clock.
    pub since: u64,
    /// The time of writing, likewise.
    pub written: u64,
    /// The host that wrote it.
    pub writer: String,
    /// The fingerprint of the key that hosts issue.
    pub current: String,
    /// The fingerprint of the key that they also accept.
    pub other: Option<String>,
    /// The fingerprint of the latest secret of own cookies.
    pub secret: Option<String>,
    /// The digest of the rules by which hosts issue own cookies, all of them with the same; see
    /// [`crate::model::OwnCookieRules::digest`]. `None` where they issue none.
    pub own_cookies: Option<String>,
    /// The hosts that rotations wait for, and the challenge that each one had published when it was admitted. Empty
    /// for one that had a document.
    pub members: BTreeMap<String, String>,
    /// The hosts that a rotation left behind.
    pub left: BTreeSet<String>,
    /// The hosts that an operator had the farm forget since it entered the phase.
    pub forgotten: BTreeSet<String>,
}

impl DocumentHead {
    /// Epoch and phase.
    pub const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            phase: self.phase,
        }
    }

    /// The farm's hosts, those left behind included.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &String> {
        self.members.keys().chain(&self.left)
    }

    /// `true` if the document says what became of a host that was a member.
    pub(super) fn accounts_for(&self, host: &String) -> bool {
        self.members.contains_key(host) || self.left.contains(host) || self.forgotten.contains(host)
    }
}

/// The head of format 1.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlierHead {
    format: u32,
    farm: String,
    epoch: u64,
    phase: Phase,
    since: u64,
    writer: String,
    current: String,
    other: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentText<H> {
    head: H,
    /// Nonce and ciphertext.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Zeroizing<String>>,
}

/// A document as its hosts read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// The part that anyone may read.
    pub head: DocumentHead,
    /// Position and keys.
    pub state: FarmState,
}

impl Document {
    /// The first document of a farm, or of what an operator puts in its place. `now` is in milliseconds since 1970.
    pub fn first(farm: &str, state: FarmState, now: u64, writer: &str, term: &str) -> Self {
        let head = DocumentHead {
            format: FORMAT,
            farm: farm.to_owned(),
            epoch: 0,
            phase: state.position.phase,
            serial: 1,
            term: term.to_owned(),
            since: now,
            written: now,
            writer: writer.to_owned(),
            current: String::new(),
            other: None,
            secret: None,
            own_cookies: None,
            members: BTreeMap::new(),
            left: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        };
        Self::with_state(head, state)
    }

    /// The document after this one, with the same members. `now` is in milliseconds since 1970.
    #[must_use]
    pub fn successor(&self, state: FarmState, now: u64, writer: &str, term: &str) -> Self {
        let mut head = self.head.clone();
        head.serial += 1;
        head.written = now;
        if state.position != self.state.position {
            head.since = now;
            head.forgotten.clear();
        }
        writer.clone_into(&mut head.writer);
        term.clone_into(&mut head.term);
        Self::with_state(head, state)
    }

    /// Sets what the head says of `state`.
    fn with_state(mut head: DocumentHead, state: FarmState) -> Self {
        let show = |key: &Key| Fingerprint::of(key).to_string();
        head.epoch = state.position.epoch;
        head.phase = state.position.phase;
        head.current = show(&state.current);
        head.other = state.other.as_ref().map(show);
        head.secret = state.secrets.last().map(show);
        Self { head, state }
    }

    /// The JSON text, with the keys sealed where there is a seal.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Random`].
    ///
    /// # Panics
    ///
    /// Never: all fields have a JSON form.
    pub fn write(&self, secret: Option<&Secret>) -> Result<Zeroizing<String>, DocumentError> {
        // The number of keys, the keys, and the secrets of own cookies.
        let pair = self.state.pair();
        let secrets = &self.state.secrets;
        let mut keys = Zeroizing::new(Vec::with_capacity(1 + Key::LEN * (2 + secrets.len())));
        keys.push(pair.keys().count() as u8);
        for key in pair.keys().chain(secrets.iter().copied()) {
            keys.extend_from_slice(Zeroizing::new(key.to_bytes()).as_ref());
        }
        let mut text = DocumentText {
            head: &self.head,
            sealed: None,
            keys: None,
        };
        if let Some(secret) = secret {
            let sealed = seal(secret, &context(&self.head), keys);
            text.sealed = Some(sealed.map_err(|error| DocumentError::Random(error.to_string()))?);
        } else {
            text.keys = Some(Zeroizing::new(BASE64.encode(&*keys)));
        }
        let text = serde_json::to_string(&text).expect("strings and numbers are JSON");
        Ok(Zeroizing::new(text))
    }

    /// Reads and authenticates a document.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(text: &[u8], secret: Option<&Secret>) -> Result<Self, DocumentError> {
        match format(text)? {
            FORMAT => {}
            EARLIER => return Err(DocumentError::Earlier),
            other => return Err(DocumentError::Format(other)),
        }
        let text: DocumentText<DocumentHead> = parse(text)?;
        let keys = text.keys(secret, &context(&text.head))?;
        let (count, keys) = keys
            .split_first()
            .ok_or_else(|| foreign("it has no keys"))?;
        let split = Key::LEN * usize::from(*count);
        let (keys, secrets) = keys
            .split_at_checked(split)
            .ok_or_else(|| foreign("it has fewer keys than it says"))?;
        let state = state(text.head.position(), keys, secrets)?;
        Self::with_state(text.head.clone(), state).verified(&text.head)
    }

    /// Reads what a host has stored: a document, or one of the format before.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    ///
    /// # Panics
    ///
    /// Never: all fields have a JSON form.
    pub fn read_stored(text: &[u8], secret: Option<&Secret>) -> Result<Self, DocumentError> {
        if format(text)? != EARLIER {
            return Self::read(text, secret);
        }
        let text: DocumentText<EarlierHead> = parse(text)?;
        let head = &text.head;
        let context = serde_json::to_vec(head).expect("strings and numbers are JSON");
        let keys = text.keys(secret, &context)?;
        let position = Position {
            epoch: head.epoch,
            phase: head.phase,
        };
        let state = state(position, &keys, &[])?;
        let mut document = Self::first(&head.farm, state, head.since, &head.writer, "");
        // Every document of the present format follows.
        document.head.serial = 0;
        let mut said = document.head.clone();
        (said.current, said.other) = (head.current.clone(), head.other.clone());
        document.verified(&said)
    }

    /// This document, if its head is `said`.
    fn verified(self, said: &DocumentHead) -> Result<Self, DocumentError> {
        if self.head == *said {
            Ok(self)
        } else {
            Err(DocumentError::Fingerprints)
        }
    }
}

impl<H> DocumentText<H> {
    /// The bytes of the keys. `context` authenticates the head.
    fn keys(
        &self,
        secret: Option<&Secret>,
        context: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        match (&self.sealed, &self.keys, secret) {
            (Some(sealed), None, Some(secret)) => {
                open(secret, context, sealed).ok_or(DocumentError::Seal)
            }
            (None, Some(keys), None) => {
                let keys = BASE64.decode(keys.as_bytes());
                keys.map(Zeroizing::new)
                    .map_err(|_| foreign("its keys are not base64"))
            }
            (Some(_), None, None) => Err(DocumentError::Sealed),
            (None, Some(_), Some(_)) => Err(DocumentError::NotSealed),
            _ => Err(foreign("it has no keys, or both sealed and plain ones")),
        }
    }
}

fn state(position: Position, keys: &[u8], secrets: &[u8]) -> Result<FarmState, DocumentError> {
    let (secrets, cut) = secrets.as_chunks::<{ Key::LEN }>();
    if !cut.is_empty() || secrets.len() > GivenSecrets::MAX {
        return Err(foreign(
            "its secrets of own cookies are cut off, or too many",
        ));
    }
    let (keys, rest) = keys.as_chunks::<{ Key::LEN }>();
    let (current, other) = match (keys, rest) {
        ([current], []) => (current, None),
        ([current, other], []) => (current, Some(Key::from_bytes(*other))),
        ([_, _, _, ..], _) => return Err(foreign("it has more than two keys")),
        _ => return Err(foreign("it has no whole key")),
    };
    Ok(FarmState {
        position,
        current: Key::from_bytes(*current),
        other,
        secrets: secrets.iter().copied().map(Key::from_bytes).collect(),
    })
}

fn foreign(what: &str) -> DocumentError {
    DocumentError::Foreign(what.to_owned())
}

/// The format of a document.
fn format(text: &[u8]) -> Result<u32, DocumentError> {
    /// The one field that every format has in the same place.
    #[derive(Deserialize)]
    struct Any {
        head: AnyHead,
    }
    #[derive(Deserialize)]
    struct AnyHead {
        format: u32,
    }
    if text.len() > MAX_DOCUMENT {
        return Err(foreign("it has more than a MiB"));
    }
    Ok(parse::<Any>(text)?.head.format)
}

fn parse<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(text).map_err(|error| {
        // It repeats what it found, which anybody may have written.
        let text = error.to_string();
        DocumentError::Foreign(text.escape_debug().take(MAX_CAUSE).collect())
    })
}

/// The additional authenticated data of the sealed keys: the head's JSON text.
fn context(head: &DocumentHead) -> Vec<u8> {
    let mut context = b"tfo farm document\0".to_vec();
    serde_json::to_writer(&mut context, head).expect("strings and numbers are JSON");
    context
}

#[cfg(test)]
mod tests;
