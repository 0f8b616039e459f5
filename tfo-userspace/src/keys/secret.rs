//! Keys derived from a secret, with the derivation of tofurkey: hosts that run either program, with the same
//! secret and interval, have the same keys at the same time.

use std::path::Path;

use blake2::{
    Blake2bMac,
    digest::{FixedOutput as _, consts::U16},
};
use tfo_common::fastopen::Key;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    error::{KeyFileError, SecretError},
    private_file::read_private_file,
};
use crate::model::ChallengeSecret;

/// Longer than any secret file that [`Secret::parse`] accepts.
const MAX_LEN: u64 = 256;
/// tofurkey's `BLAKE2b` personalization.
const PERSONA: &[u8; 16] = b"tofurkey\0\0\0\0\0\0\0\0";
/// Of the secrets of own cookies.
const OWN_COOKIES: &[u8; 16] = b"tfo own cookies\0";

/// Of the secret of challenges.
const CHALLENGES: &[u8; 16] = b"tfo challenges\0\0";

/// A 32-byte secret. Every key is derived from it and the number of an interval.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Reads a file that only its owner may read; see [`Secret::parse`] for its content.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] where it cannot be read, is open to other users, or holds no secret.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&read_private_file(path, MAX_LEN)?).map_err(|source| KeyFileError::Secret {
            path: path.to_owned(),
            source,
        })
    }

    /// Parses 64 hexadecimal digits with an optional newline, or 32 raw bytes, the format of tofurkey.
    ///
    /// # Errors
    ///
    /// [`SecretError`] where the length is another one, or a character is no digit.
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

    pub(crate) const fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The primary key of the `n`th interval since 1970: `BLAKE2b` (RFC 7693) with a 16-byte digest, keyed with
    /// the secret, salted with `n` (little endian). The digest is the key's text in `tcp_fastopen_key`.
    ///
    /// # Panics
    ///
    /// Never: `BLAKE2b` takes a key of 32 bytes, a salt and a personalization of 16.
    pub fn key(&self, n: u64) -> Key {
        let digest = self.derive([n, 0], PERSONA);
        let mut groups = [0; 4];
        for (group, bytes) in groups.iter_mut().zip(digest.as_chunks::<4>().0) {
            *group = u32::from_be_bytes(*bytes);
        }
        Key::from_groups(groups)
    }

    /// The secret of own cookies in the `slot`th interval of `interval` seconds since 1970. Neither it nor a cookie key
    /// tells anything about the other: their personalizations differ.
    pub fn own_cookie_secret(&self, slot: u64, interval: u64) -> Key {
        Key::from_bytes(*self.derive([slot, interval], OWN_COOKIES))
    }

    /// The secret of challenges, for all time slots: their MAC covers the slot.
    pub fn challenge_secret(&self) -> ChallengeSecret {
        ChallengeSecret::new(Key::from_bytes(*self.derive([0, 0], CHALLENGES)))
    }

    /// `BLAKE2b` keyed with the secret, with this salt (little endian).
    fn derive(&self, salt: [u64; 2], persona: &[u8; 16]) -> Zeroizing<[u8; 16]> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&salt[0].to_le_bytes());
        bytes[8..].copy_from_slice(&salt[1].to_le_bytes());
        let hash = Blake2bMac::<U16>::new_with_salt_and_personal(&self.0, &bytes, persona)
            .expect("a key of 32 bytes, a salt and a personalization of 16");
        let mut digest = Zeroizing::new([0; 16]);
        hash.finalize_into((&mut *digest).into());
        digest
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
    fn own_cookies_have_secrets_of_their_own() {
        let secret = Secret::parse(TEXT.as_bytes()).unwrap();
        let own = |slot, interval| secret.own_cookie_secret(slot, interval).to_bytes();
        let challenges = secret.challenge_secret().key().to_bytes();
        let first = secret.key(0).to_bytes();
        let all = [
            own(1, 60),
            own(2, 60),
            own(1, 61),
            own(0, 0),
            first,
            challenges,
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other != one), "{index}");
        }
        assert_eq!(own(1, 60), own(1, 60));
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
