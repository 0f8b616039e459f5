//! Keys that are derived from a secret, as tofurkey derives them: hosts that run either, with the same
//! secret and interval, have the same keys at the same time.

use std::path::Path;

use blake2::{
    Blake2bMac,
    digest::{FixedOutput as _, consts::U16},
};
use tfo_common::cookie::Key;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{KeyFileError, private};

const PERSONA: &[u8; 16] = b"tofurkey\0\0\0\0\0\0\0\0";

/// What is wrong with a secret's text. It never holds the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Neither 32 bytes nor 64 digits.
    #[error(
        "it has {0} bytes: write 64 hexadecimal digits on one line (openssl rand -hex 32), or 32 bytes as they are"
    )]
    Length(usize),
    /// Something that is not a digit.
    #[error("it has 64 characters, of which the {0}th is not a hexadecimal digit")]
    Digit(usize),
}

/// 32 bytes, from which every key follows.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Bytes of a secret.
    pub const LEN: usize = 32;

    /// The secret in a file, which its owner alone may read: 64 hexadecimal digits, which a newline may
    /// end, or 32 bytes as they are, which is how tofurkey reads its own.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] where it cannot be read, others can read it, or it holds no secret.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&private::read(path)?).map_err(|source| KeyFileError::Secret {
            path: path.to_owned(),
            source,
        })
    }

    /// The secret that a file with these bytes holds.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretError> {
        if let Ok(raw) = <[u8; Self::LEN]>::try_from(bytes) {
            return Ok(Self(raw));
        }
        let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if digits.len() != 2 * Self::LEN {
            return Err(SecretError::Length(bytes.len()));
        }
        let mut secret = Self([0; Self::LEN]);
        for (index, digit) in digits.iter().enumerate() {
            let value = char::from(*digit)
                .to_digit(16)
                .ok_or(SecretError::Digit(index + 1))?;
            secret.0[index / 2] = secret.0[index / 2] << 4 | value as u8;
        }
        Ok(secret)
    }

    /// The secret itself.
    pub(crate) const fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The key that is primary in the `n`th interval since 1970.
    ///
    /// It is `BLAKE2b` (RFC 7693) with a digest of 16 bytes, keyed with the secret, with `n` as the salt;
    /// the digest's bytes are the four groups' digits in their order.
    ///
    /// # Panics
    ///
    /// Never: the lengths are those that `BLAKE2b` takes.
    pub fn key(&self, n: u64) -> Key {
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&n.to_le_bytes());
        let hash = Blake2bMac::<U16>::new_with_salt_and_personal(&self.0, &salt, PERSONA)
            .expect("a key of 32 bytes, a salt and a persona of 16");
        let mut digest = Zeroizing::new([0; 16]);
        hash.finalize_into((&mut *digest).into());
        let mut groups = [0; 4];
        for (group, bytes) in groups.iter_mut().zip(digest.as_chunks::<4>().0) {
            *group = u32::from_be_bytes(*bytes);
        }
        Key::from_groups(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";

    #[test]
    fn a_secret_is_digits_or_bytes() {
        let secret = Secret::parse(TEXT.as_bytes()).unwrap();
        assert!(Secret::parse(format!("{TEXT}\n").as_bytes()).unwrap() == secret);
        assert!(Secret::parse(&secret.0).unwrap() == secret);
        for (text, error) in [
            (String::new(), SecretError::Length(0)),
            (TEXT[1..].to_owned(), SecretError::Length(63)),
            (format!("{TEXT}0"), SecretError::Length(65)),
            (format!("{TEXT}\n\n"), SecretError::Length(66)),
            (TEXT.replace('f', "g"), SecretError::Digit(32)),
        ] {
            let parsed = Secret::parse(text.as_bytes());
            assert_eq!(parsed.err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn keys_are_those_of_tofurkey() {
        let secret = Secret::parse(TEXT.as_bytes()).unwrap();
        let n = 1_000_000 / 86_400;
        let key = |groups| Key::from_groups(groups);
        assert!(secret.key(n) == key([0xc998_252e, 0x8f89_667d, 0x3196_1e08, 0x3897_526b]));
        assert!(secret.key(n + 1) == key([0x1c9c_a1a5, 0x9d29_5055, 0xf8e3_d4df, 0x7107_b577]));
    }
}
