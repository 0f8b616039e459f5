//! The farm's document: its state, for all hosts. etcd and the disk of each host hold the same text.
//!
//! Anyone may read the head, which holds fingerprints and no key. The keys are sealed with XChaCha20-Poly1305 under
//! a key that the hosts have and the operators of etcd do not; the head is the additional authenticated data, so
//! that it cannot be combined with other keys. A farm without a seal stores the keys in the clear.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::generic_array::typenum::Unsigned,
};
use serde::{Deserialize, Serialize};
use tfo_common::fastopen::Key;
use zeroize::Zeroizing;

use super::phase::{FarmState, Phase, Position};
use crate::{keys::Secret, model::Fingerprint};

/// The version of the format.
const FORMAT: u32 = 1;
/// Bytes of a nonce and of an authentication tag.
const NONCE: usize = <XChaCha20Poly1305 as chacha20poly1305::AeadCore>::NonceSize::USIZE;
const TAG: usize = 16;

/// Why a document is refused. It is left alone, and the keys in force stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not a document; the text says why.
    #[error(
        "it is no farm's document ({0}): check the prefix, or replace it: `tfo farm init --replace`"
    )]
    Foreign(String),
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
    /// The time of writing, in milliseconds since 1970 by the writer's clock.
    pub since: u64,
    /// The host that wrote it.
    pub writer: String,
    /// The fingerprint of the key that hosts issue.
    pub current: String,
    /// The fingerprint of the key that they also accept.
    pub other: Option<String>,
}

impl DocumentHead {
    /// Epoch and phase.
    pub const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            phase: self.phase,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentText {
    head: DocumentHead,
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
    /// A document for `state`. `since` is in milliseconds since 1970.
    pub fn new(farm: &str, state: FarmState, since: u64, writer: &str) -> Self {
        let show = |key: &Key| Fingerprint::of(key).to_string();
        Self {
            head: DocumentHead {
                format: FORMAT,
                farm: farm.to_owned(),
                epoch: state.position.epoch,
                phase: state.position.phase,
                since,
                writer: writer.to_owned(),
                current: show(&state.current),
                other: state.other.as_ref().map(show),
            },
            state,
        }
    }

    /// The JSON text, with the keys sealed where there is a seal.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Random`].
    ///
    /// # Panics
    ///
    /// Never: the keys are shorter than the cipher's limit, and all fields have a JSON form.
    pub fn write(&self, seal: Option<&Secret>) -> Result<Zeroizing<String>, DocumentError> {
        let mut keys = Zeroizing::new(Vec::with_capacity(2 * Key::LEN));
        for key in self.state.pair().keys() {
            keys.extend_from_slice(Zeroizing::new(key.to_bytes()).as_ref());
        }
        let mut text = DocumentText {
            head: self.head.clone(),
            sealed: None,
            keys: None,
        };
        if let Some(seal) = seal {
            let mut bytes = vec![0; NONCE];
            getrandom::fill(&mut bytes)
                .map_err(|error| DocumentError::Random(error.to_string()))?;
            let tag = cipher(seal)
                .encrypt_in_place_detached(
                    XNonce::from_slice(&bytes),
                    &associated_data(&self.head),
                    &mut keys,
                )
                .expect("two keys are shorter than the cipher's limit");
            bytes.extend_from_slice(&tag);
            bytes.extend_from_slice(&keys);
            text.sealed = Some(BASE64.encode(bytes));
        } else {
            text.keys = Some(Zeroizing::new(BASE64.encode(&*keys)));
        }
        let text = serde_json::to_string(&text).expect("strings and numbers are JSON");
        Ok(Zeroizing::new(text))
    }

    /// Reads the head alone, for which no seal is needed.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Foreign`], [`DocumentError::Format`].
    pub fn read_head(text: &[u8]) -> Result<DocumentHead, DocumentError> {
        Ok(parse(text)?.head)
    }

    /// Reads head and keys.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(text: &[u8], seal: Option<&Secret>) -> Result<Self, DocumentError> {
        let DocumentText { head, sealed, keys } = parse(text)?;
        let foreign = |what: &str| DocumentError::Foreign(what.to_owned());
        let keys = match (sealed, keys, seal) {
            (Some(sealed), None, Some(seal)) => open(&sealed, &head, seal)?,
            (None, Some(keys), None) => Zeroizing::new(
                BASE64
                    .decode(keys.as_bytes())
                    .map_err(|_| foreign("its keys are not base64"))?,
            ),
            (Some(_), None, None) => return Err(DocumentError::Sealed),
            (None, Some(_), Some(_)) => return Err(DocumentError::NotSealed),
            _ => return Err(foreign("it has no keys, or both sealed and plain ones")),
        };
        let (keys, rest) = keys.as_chunks::<{ Key::LEN }>();
        let (&[current], &[]) = (keys.get(..1).unwrap_or_default(), rest) else {
            return Err(foreign("it has no whole key"));
        };
        let other = match keys {
            [_] => None,
            [_, other] => Some(Key::from_bytes(*other)),
            _ => return Err(foreign("it has more than two keys")),
        };
        let state = FarmState {
            position: head.position(),
            current: Key::from_bytes(current),
            other,
        };
        let document = Self::new(&head.farm, state, head.since, &head.writer);
        if document.head == head {
            Ok(document)
        } else {
            Err(DocumentError::Fingerprints)
        }
    }
}

fn parse(text: &[u8]) -> Result<DocumentText, DocumentError> {
    /// The one field that every format has in the same place.
    #[derive(Deserialize)]
    struct Any {
        head: AnyHead,
    }
    #[derive(Deserialize)]
    struct AnyHead {
        format: u32,
    }
    let foreign = |error: serde_json::Error| DocumentError::Foreign(error.to_string());
    let any: Any = serde_json::from_slice(text).map_err(foreign)?;
    if any.head.format != FORMAT {
        return Err(DocumentError::Format(any.head.format));
    }
    serde_json::from_slice(text).map_err(foreign)
}

fn open(
    sealed: &str,
    head: &DocumentHead,
    seal: &Secret,
) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
    let bytes = BASE64.decode(sealed).map_err(|_| DocumentError::Seal)?;
    let (nonce, rest) = bytes.split_at_checked(NONCE).ok_or(DocumentError::Seal)?;
    let (tag, keys) = rest.split_at_checked(TAG).ok_or(DocumentError::Seal)?;
    let mut keys = Zeroizing::new(keys.to_vec());
    cipher(seal)
        .decrypt_in_place_detached(nonce.into(), &associated_data(head), &mut keys, tag.into())
        .map_err(|_| DocumentError::Seal)?;
    Ok(keys)
}

fn cipher(seal: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(seal.bytes().into())
}

/// The additional authenticated data of the sealed keys: the head's JSON text.
fn associated_data(head: &DocumentHead) -> Vec<u8> {
    serde_json::to_vec(head).expect("strings and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::key;

    fn document(other: Option<Key>) -> Document {
        let state = FarmState {
            position: Position {
                epoch: 7,
                phase: Phase::Stage,
            },
            current: key(1),
            other,
        };
        Document::new("f", state, 1_700_000_000_123, "web-1")
    }

    fn seal(byte: u8) -> Secret {
        Secret::parse(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_document_survives_a_round_trip() {
        for other in [None, Some(key(2))] {
            let document = document(other);
            for seal in [None, Some(seal(1))] {
                let text = document.write(seal.as_ref()).unwrap();
                let read = Document::read(text.as_bytes(), seal.as_ref());
                assert!(read.ok().as_ref() == Some(&document), "{}", *text);
                assert_eq!(Document::read_head(text.as_bytes()).unwrap(), document.head);
            }
        }
    }

    #[test]
    fn what_is_sealed_shows_no_key_and_no_change() {
        let document = document(Some(key(2)));
        let text = document.write(Some(&seal(1))).unwrap();
        let plain = document.write(None).unwrap();
        let keys = plain.split(r#""keys":""#).nth(1).unwrap();
        assert!(!text.contains(&keys[..20]));
        let read = |text: &str, seal: Option<&Secret>| {
            Document::read(text.as_bytes(), seal).err().unwrap()
        };
        assert_eq!(read(&text, None), DocumentError::Sealed);
        assert_eq!(read(&text, Some(&seal(2))), DocumentError::Seal);
        assert_eq!(read(&plain, Some(&seal(1))), DocumentError::NotSealed);
        let older = text.replace(r#""epoch":7"#, r#""epoch":8"#);
        assert_eq!(read(&older, Some(&seal(1))), DocumentError::Seal);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let plain = document(None).write(None).unwrap();
        let foreign = |text: &str| {
            let error = Document::read(text.as_bytes(), None).err().unwrap();
            assert!(
                matches!(error, DocumentError::Foreign(_)),
                "{text}: {error}"
            );
        };
        foreign("");
        foreign("{}");
        foreign(&plain[1..]);
        foreign(&plain.replace("writer", "author"));
        foreign(&plain.replace(r#""keys":""#, r#""keys":"A"#));
        foreign(&plain.replace(r#","keys""#, r#","sealed":"","keys""#));
        let later = plain.replace(r#""format":1"#, r#""format":2,"more":[]"#);
        let read = |text: &str| Document::read(text.as_bytes(), None).err();
        assert_eq!(read(&later), Some(DocumentError::Format(2)));
        let other = document(Some(key(2))).head.other.unwrap();
        let changed = plain.replace(r#""other":null"#, &format!(r#""other":"{other}""#));
        assert_eq!(read(&changed), Some(DocumentError::Fingerprints));
    }
}
