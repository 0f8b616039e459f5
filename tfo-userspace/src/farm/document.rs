//! The stored document: where a farm stands, for all of its hosts. It is the same text in etcd and on the
//! disk of each host.
//!
//! The head is there for everyone to read, and holds fingerprints alone. The keys are sealed with
//! XChaCha20-Poly1305 under a key that the hosts have and etcd's operators do not; the head is bound to them,
//! so nobody can pair it with other keys. Without a seal they stand there as they are.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::generic_array::typenum::Unsigned,
};
use serde::{Deserialize, Serialize};
use tfo_common::cookie::Key;
use zeroize::Zeroizing;

use super::phase::{Phase, Place, Standing};
use crate::keys::{Fingerprint, Secret};

/// The only form there is so far.
const FORMAT: u32 = 1;
/// Bytes of a nonce.
const NONCE: usize = <XChaCha20Poly1305 as chacha20poly1305::AeadCore>::NonceSize::USIZE;

/// Why a document is of no use. It stays where it is, and the keys stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Something else stands there.
    #[error(
        "it is no farm's document ({0}): look at the prefix, or mend it by `tfo farm init --replace`"
    )]
    Foreign(String),
    /// Of a later tfo.
    #[error("it has format {0}, and this tfo knows {FORMAT}: upgrade tfo here")]
    Format(u32),
    /// Sealed, and there is nothing to open it with.
    #[error("its keys are sealed: give the farm's seal, as in [farm] seal = \"/etc/tfo/seal\"")]
    Sealed,
    /// Not sealed, where it should be: anyone may have put it there.
    #[error(
        "its keys are not sealed, and this host has a seal: `tfo farm init --replace` seals them, or take the seal out of [farm]"
    )]
    NotSealed,
    /// Another seal, or someone changed it.
    #[error(
        "its keys cannot be opened with this host's seal: it is another one than the farm's, or someone changed the document"
    )]
    Seal,
    /// Head and keys are not of one document.
    #[error(
        "its keys are not those of its fingerprints: someone changed it; mend it by `tfo farm init --replace`"
    )]
    Fingerprints,
    /// No random numbers.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
}

/// What everyone may read of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The form of all of it.
    pub format: u32,
    /// Tells this farm from all others.
    pub farm: String,
    /// The number of the key that hosts issue.
    pub epoch: u64,
    /// What is being done in it.
    pub phase: Phase,
    /// Since when, in milliseconds since 1970 by the writer's clock.
    pub since: u64,
    /// The host that wrote it.
    pub writer: String,
    /// The fingerprint of the key that hosts issue.
    pub current: String,
    /// And of the one that they accept besides.
    pub other: Option<String>,
}

impl Head {
    /// How far the farm has come.
    pub const fn place(&self) -> Place {
        Place {
            epoch: self.epoch,
            phase: self.phase,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    head: Head,
    /// Nonce and ciphertext.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Zeroizing<String>>,
}

/// A document as its hosts read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// What everyone may read.
    pub head: Head,
    /// The same, with the keys.
    pub standing: Standing,
}

impl Document {
    /// The document that says so.
    pub fn new(farm: &str, standing: Standing, since: u64, writer: &str) -> Self {
        let show = |key: &Key| Fingerprint::of(key).to_string();
        Self {
            head: Head {
                format: FORMAT,
                farm: farm.to_owned(),
                epoch: standing.place.epoch,
                phase: standing.place.phase,
                since,
                writer: writer.to_owned(),
                current: show(&standing.current),
                other: standing.other.as_ref().map(show),
            },
            standing,
        }
    }

    /// Its text, sealed if there is a seal.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Random`].
    ///
    /// # Panics
    ///
    /// Never: so few bytes can be sealed, and all of it is JSON.
    pub fn write(&self, seal: Option<&Secret>) -> Result<Zeroizing<String>, DocumentError> {
        let mut keys = Zeroizing::new(Vec::with_capacity(2 * Key::LEN));
        for key in self.standing.pair().keys() {
            keys.extend_from_slice(Zeroizing::new(key.to_bytes()).as_ref());
        }
        let mut text = Text {
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
                    &bound(&self.head),
                    &mut keys,
                )
                .expect("so few bytes are not too long for it");
            bytes.extend_from_slice(&tag);
            bytes.extend_from_slice(&keys);
            text.sealed = Some(BASE64.encode(bytes));
        } else {
            text.keys = Some(Zeroizing::new(BASE64.encode(&*keys)));
        }
        let text = serde_json::to_string(&text).expect("strings and numbers are JSON");
        Ok(Zeroizing::new(text))
    }

    /// Reads what everyone may.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Foreign`], [`DocumentError::Format`].
    pub fn head(text: &[u8]) -> Result<Head, DocumentError> {
        Ok(parse(text)?.head)
    }

    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// [`DocumentError`].
    pub fn read(text: &[u8], seal: Option<&Secret>) -> Result<Self, DocumentError> {
        let Text { head, sealed, keys } = parse(text)?;
        let foreign = |what: &str| DocumentError::Foreign(what.to_owned());
        let keys = match (sealed, keys, seal) {
            (Some(sealed), None, Some(seal)) => open(&sealed, &head, seal)?,
            (None, Some(keys), None) => Zeroizing::new(
                BASE64
                    .decode(keys.as_bytes())
                    .map_err(|_| foreign("its keys are not in base64"))?,
            ),
            (Some(_), None, None) => return Err(DocumentError::Sealed),
            (None, Some(_), Some(_)) => return Err(DocumentError::NotSealed),
            _ => return Err(foreign("it has no keys, or has them twice")),
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
        let standing = Standing {
            place: head.place(),
            current: Key::from_bytes(current),
            other,
        };
        let document = Self::new(&head.farm, standing, head.since, &head.writer);
        if document.head == head {
            Ok(document)
        } else {
            Err(DocumentError::Fingerprints)
        }
    }
}

fn parse(text: &[u8]) -> Result<Text, DocumentError> {
    /// The one thing that is where it is in every format.
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

fn open(sealed: &str, head: &Head, seal: &Secret) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
    let bytes = BASE64.decode(sealed).map_err(|_| DocumentError::Seal)?;
    let (nonce, rest) = bytes.split_at_checked(NONCE).ok_or(DocumentError::Seal)?;
    let (tag, keys) = rest.split_at_checked(16).ok_or(DocumentError::Seal)?;
    let mut keys = Zeroizing::new(keys.to_vec());
    cipher(seal)
        .decrypt_in_place_detached(nonce.into(), &bound(head), &mut keys, tag.into())
        .map_err(|_| DocumentError::Seal)?;
    Ok(keys)
}

fn cipher(seal: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(seal.bytes().into())
}

/// What is bound to the keys: the head, in the one way in which it is written.
fn bound(head: &Head) -> Vec<u8> {
    serde_json::to_vec(head).expect("strings and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::key;

    fn document(other: Option<Key>) -> Document {
        let standing = Standing {
            place: Place {
                epoch: 7,
                phase: Phase::Stage,
            },
            current: key(1),
            other,
        };
        Document::new("f", standing, 1_700_000_000_123, "web-1")
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
                assert_eq!(Document::head(text.as_bytes()).unwrap(), document.head);
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
