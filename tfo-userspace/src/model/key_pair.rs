//! Key pairs: the content of `net.ipv4.tcp_fastopen_key` and its text.

use std::fmt;

use blake2::{Blake2s256, Digest as _};
use tfo_common::fastopen::{Key, KeySet};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Hexadecimal digits per group, and groups per key.
const DIGITS: usize = 8;
const GROUPS: usize = 4;

/// A key's text is wrong. Never holds the text itself, which may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// No text.
    #[error(
        "no key: write four groups of 8 hexadecimal digits, as in 00112233-44556677-8899aabb-ccddeeff"
    )]
    Empty,
    /// More than a primary and a backup.
    #[error("{0} keys: the kernel takes a primary and a backup, with a comma between, and no more")]
    TooMany(usize),
    /// Not four groups.
    #[error(
        "key {key} has {groups} groups: it takes four of 8 hexadecimal digits, with a hyphen between"
    )]
    Groups {
        /// The key's number, from 1.
        key: usize,
        /// Number of its groups.
        groups: usize,
    },
    /// A group is not 8 hexadecimal digits.
    #[error(
        "key {key}, group {group} is not 8 hexadecimal digits (no 0x, no spaces, leading zeros written)"
    )]
    Group {
        /// The key's number, from 1.
        key: usize,
        /// The group's number, from 1.
        group: usize,
    },
    /// The backup equals the primary.
    #[error(
        "the backup key equals the primary: leave it out, or write the key that was primary before"
    )]
    Same,
}

/// A primary key and an optional backup.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyPair {
    /// Issues cookies, and accepts its own.
    pub primary: Key,
    /// Accepts cookies that it issued before.
    pub backup: Option<Key>,
}

impl KeyPair {
    /// Parses `PRIMARY[,BACKUP]`, as the kernel prints it, with an optional newline.
    ///
    /// Stricter than the kernel, which takes `0x`, short groups and trailing junk, and then holds another key than
    /// was meant.
    ///
    /// # Errors
    ///
    /// [`KeyTextError`] with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.is_empty() {
            return Err(KeyTextError::Empty);
        }
        let parts = text.split(',').count();
        let mut keys = text.split(',');
        let primary = parse_key(1, keys.next().unwrap_or_default())?;
        let backup = keys.next().map(|key| parse_key(2, key)).transpose()?;
        if parts > 2 {
            return Err(KeyTextError::TooMany(parts));
        }
        if backup == Some(primary) {
            return Err(KeyTextError::Same);
        }
        Ok(Self { primary, backup })
    }

    /// The text that [`Self::parse`] and the kernel take.
    ///
    /// # Panics
    ///
    /// Never: writing to a string cannot fail.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * GROUPS * (DIGITS + 1)));
        for key in self.keys() {
            let [a, b, c, d] = key.to_groups();
            let comma = if text.is_empty() { "" } else { "," };
            // The capacity suffices: no reallocation leaves a copy of a key in memory.
            fmt::Write::write_fmt(
                &mut *text,
                format_args!("{comma}{a:08x}-{b:08x}-{c:08x}-{d:08x}"),
            )
            .expect("writing to a String cannot fail");
        }
        text
    }

    /// The keys, primary first.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        std::iter::once(self.primary).chain(self.backup)
    }

    /// The set of these keys.
    ///
    /// # Panics
    ///
    /// Never: a set has room for two keys.
    pub fn to_set(&self) -> KeySet {
        KeySet::new(self.keys()).expect("a set has room for two keys")
    }

    /// The fingerprints of the pair: `primary 01234567, backup 89abcdef`.
    pub fn describe(&self) -> String {
        let primary = Fingerprint::of(&self.primary);
        match &self.backup {
            Some(backup) => format!("primary {primary}, backup {}", Fingerprint::of(backup)),
            None => format!("primary {primary}"),
        }
    }

    /// All zeros: the kernel has no key yet.
    pub(crate) fn is_zero(&self) -> bool {
        self.primary == Key::ZERO
    }
}

/// Shows fingerprints.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys().map(|key| Fingerprint::of(&key).to_string()))
            .finish()
    }
}

/// A random key from getrandom(2).
pub(crate) fn random_key() -> Result<Key, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; Key::LEN]);
    getrandom::fill(bytes.as_mut())?;
    Ok(Key::from_bytes(*bytes))
}

fn parse_key(key: usize, text: &str) -> Result<Key, KeyTextError> {
    let count = text.split('-').count();
    if count != GROUPS {
        return Err(KeyTextError::Groups { key, groups: count });
    }
    let mut groups = [0; GROUPS];
    for (index, (value, digits)) in groups.iter_mut().zip(text.split('-')).enumerate() {
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        *value = u32::from_str_radix(digits, 16)
            .ok()
            .filter(|_| hexadecimal && digits.len() == DIGITS)
            .ok_or(KeyTextError::Group {
                key,
                group: index + 1,
            })?;
    }
    Ok(Key::from_groups(groups))
}

/// 32 bits of a BLAKE2s digest of a key, which may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Equal on every host for equal keys.
    pub fn of(key: &Key) -> Self {
        let digest = Blake2s256::new()
            .chain_update("tfo key fingerprint")
            .chain_update(*Zeroizing::new(key.to_bytes()))
            .finalize();
        let [a, b, c, d, ..]: [u8; 32] = digest.into();
        Self(u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00112233-44556677-8899aabb-ccddeeff";
    const TWO: &str = "a1b2c3d4-00000000-00000000-00000001";

    #[test]
    fn text_survives_a_round_trip() {
        for text in [ONE.to_owned(), format!("{ONE},{TWO}")] {
            let pair = KeyPair::parse(&text).unwrap();
            assert_eq!(*pair.to_text(), text);
            assert!(KeyPair::parse(&format!("{text}\n")).unwrap() == pair);
        }
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        use KeyTextError::{Empty, Group, Groups, Same, TooMany};
        let group = |key, group| Group { key, group };
        for (text, error) in [
            (String::new(), Empty),
            ("\n".into(), Empty),
            ("1-2-3".into(), Groups { key: 1, groups: 3 }),
            ("1-2-3-4".into(), group(1, 1)),
            (ONE.replace("00112233", "0x112233"), group(1, 1)),
            (ONE.replace("00112233", "+0112233"), group(1, 1)),
            (ONE.replace("-44", "- 4"), group(1, 2)),
            (format!(" {ONE}"), group(1, 1)),
            (format!("{ONE} "), group(1, 4)),
            (format!("{ONE}\n\n"), group(1, 4)),
            (format!("{ONE}x"), group(1, 4)),
            (format!("{ONE}-00000000"), Groups { key: 1, groups: 5 }),
            (format!("{ONE},"), Groups { key: 2, groups: 1 }),
            (format!("{ONE},5-6"), Groups { key: 2, groups: 2 }),
            (format!("{ONE},{TWO},{ONE}"), TooMany(3)),
            (format!("{ONE},{ONE}"), Same),
        ] {
            assert_eq!(KeyPair::parse(&text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        let pair = KeyPair::parse(ONE).unwrap();
        let shown = format!("{pair:?}");
        assert!(!shown.contains("00112233"), "{shown}");
        assert_eq!(Fingerprint::of(&pair.primary).to_string().len(), 8);
    }
}
