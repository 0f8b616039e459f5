//! Values that only a host of the farm can have written.
//!
//! A value in etcd is sealed with XChaCha20-Poly1305 under the farm's seal, with a random nonce. Its key in etcd is
//! the additional authenticated data, so that a value that is copied to another key does not open. A farm without a
//! seal writes the same values in the clear.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    AeadInPlace as _, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::generic_array::typenum::Unsigned,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::keys::Secret;

/// The version of the format of documents and of all other values.
pub(super) const FORMAT: u32 = 2;

/// Bytes of a nonce and of an authentication tag.
const NONCE: usize = <XChaCha20Poly1305 as chacha20poly1305::AeadCore>::NonceSize::USIZE;
const TAG: usize = 16;
/// Most bytes of a value other than the document.
pub(super) const MAX_VALUE: usize = 8 << 10;

/// Why a value in etcd is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// Longer than any value of a farm.
    #[error("it has {0} bytes, more than a host writes")]
    Size(usize),
    /// One of more records than a farm has.
    #[error("there are more than a farm has hosts")]
    Number,
    /// Not JSON, or not the JSON of such a value.
    #[error("it is no value of a farm")]
    Foreign,
    /// A format of another version of `tfo`.
    #[error("it has format {0}, and this tfo reads format {FORMAT}")]
    Format(u32),
    /// In the clear, although this host has a seal.
    #[error("it is not sealed")]
    NotSealed,
    /// Sealed, and this host has no seal.
    #[error("it is sealed, and this host has no seal")]
    Sealed,
    /// The authentication failed.
    #[error("no host of the farm sealed it for this key: it is forged, or copied from another key")]
    Seal,
    /// Sealed by a host, but for an earlier state of the farm.
    #[error("it is of an earlier state of the farm: put back, or late")]
    Replayed,
}

/// Encrypts `plain` and authenticates it along with `context`. Gives nonce, tag and ciphertext in base64.
///
/// # Errors
///
/// getrandom(2) failed.
///
/// # Panics
///
/// Never: values are shorter than the cipher's limit of 256 GiB.
pub(super) fn seal(
    secret: &Secret,
    context: &[u8],
    mut plain: Zeroizing<Vec<u8>>,
) -> Result<String, getrandom::Error> {
    let mut bytes = vec![0; NONCE];
    getrandom::fill(&mut bytes)?;
    let tag = cipher(secret)
        .encrypt_in_place_detached(XNonce::from_slice(&bytes), context, &mut plain)
        .expect("a value is shorter than the cipher's limit");
    bytes.extend_from_slice(&tag);
    bytes.extend_from_slice(&plain);
    Ok(BASE64.encode(bytes))
}

/// Decrypts what [`seal`] gave; `None` where secret, context or text is another one.
pub(super) fn open(secret: &Secret, context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = BASE64.decode(text).ok()?;
    let (nonce, rest) = bytes.split_at_checked(NONCE)?;
    let (tag, sealed) = rest.split_at_checked(TAG)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    cipher(secret)
        .decrypt_in_place_detached(nonce.into(), context, &mut plain, tag.into())
        .ok()?;
    Some(plain)
}

fn cipher(secret: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(secret.bytes().into())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueText {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain: Option<serde_json::Value>,
}

/// Writes and reads the values below a farm's prefix.
pub(super) struct Codec {
    prefix: String,
    seal: Option<Secret>,
}

impl Codec {
    pub(super) fn new(prefix: &str, seal: Option<Secret>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            seal,
        }
    }

    /// The farm's prefix.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The text of `value`, for the key `name` below the prefix.
    ///
    /// # Errors
    ///
    /// getrandom(2) failed.
    ///
    /// # Panics
    ///
    /// Never: all values have a JSON form.
    pub(super) fn write<T: Serialize>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut text = ValueText {
            format: FORMAT,
            sealed: None,
            plain: None,
        };
        if let Some(secret) = &self.seal {
            let plain = serde_json::to_vec(value).expect("strings and numbers are JSON");
            text.sealed = Some(seal(secret, &self.context(name), Zeroizing::new(plain))?);
        } else {
            text.plain = Some(serde_json::to_value(value).expect("strings and numbers are JSON"));
        }
        Ok(serde_json::to_vec(&text).expect("strings and numbers are JSON"))
    }

    /// Reads the value of the key `name` below the prefix.
    ///
    /// # Errors
    ///
    /// [`ValueError`], but for [`ValueError::Replayed`].
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<T, ValueError> {
        /// The one field that every format has in the same place.
        #[derive(Deserialize)]
        struct Any {
            format: u32,
        }
        if bytes.len() > MAX_VALUE {
            return Err(ValueError::Size(bytes.len()));
        }
        let any: Any = serde_json::from_slice(bytes).map_err(|_| ValueError::Foreign)?;
        if any.format != FORMAT {
            return Err(ValueError::Format(any.format));
        }
        let text: ValueText = serde_json::from_slice(bytes).map_err(|_| ValueError::Foreign)?;
        let value = match (text.sealed, text.plain, &self.seal) {
            (Some(sealed), None, Some(secret)) => {
                let plain = open(secret, &self.context(name), &sealed).ok_or(ValueError::Seal)?;
                serde_json::from_slice(&plain).ok()
            }
            (None, Some(plain), None) => serde_json::from_value(plain).ok(),
            (None, Some(_), Some(_)) => return Err(ValueError::NotSealed),
            (Some(_), None, None) => return Err(ValueError::Sealed),
            _ => None,
        };
        value.ok_or(ValueError::Foreign)
    }

    /// Returns the context to which a sealed value is bound: the format and the whole key.
    fn context(&self, name: &str) -> Vec<u8> {
        format!("tfo farm value {FORMAT}\0{}{name}", self.prefix).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(prefix: &str, byte: Option<u8>) -> Codec {
        let seal = byte.map(|byte| Secret::parse(&[byte; 32]).unwrap());
        Codec::new(prefix, seal)
    }

    #[test]
    fn a_value_opens_under_its_own_key_alone() {
        let sealed = codec("/tfo/", Some(1));
        let text = sealed.write("hosts/a", &"value").unwrap();
        let read = |codec: &Codec, name: &str| codec.read::<String>(name, &text);
        assert_eq!(read(&sealed, "hosts/a"), Ok("value".to_owned()));
        for (codec, name, error) in [
            (sealed, "hosts/b", ValueError::Seal),
            (codec("/web/", Some(1)), "hosts/a", ValueError::Seal),
            (codec("/tfo/", Some(2)), "hosts/a", ValueError::Seal),
            (codec("/tfo/", None), "hosts/a", ValueError::Sealed),
        ] {
            assert_eq!(read(&codec, name), Err(error), "{name}");
        }
        assert!(!text.windows(5).any(|part| part == b"value"));
    }

    #[test]
    fn junk_is_told_by_its_cause() {
        let sealed = codec("/tfo/", Some(1));
        let plain = codec("/tfo/", None);
        let clear = plain.write("request", &1).unwrap();
        assert_eq!(plain.read::<u32>("request", &clear), Ok(1));
        let long = vec![b' '; MAX_VALUE + 1];
        for (text, error) in [
            (clear.as_slice(), ValueError::NotSealed),
            (b"\"revoke\"", ValueError::Foreign),
            (b"", ValueError::Foreign),
            (b"{\"format\":2}", ValueError::Foreign),
            (b"{\"format\":2,\"sealed\":\"AAAA\"}", ValueError::Seal),
            (b"{\"format\":3,\"more\":1}", ValueError::Format(3)),
            (long.as_slice(), ValueError::Size(MAX_VALUE + 1)),
        ] {
            assert_eq!(sealed.read::<u32>("request", text), Err(error));
        }
    }
}
