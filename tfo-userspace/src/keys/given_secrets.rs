//! Secrets of own cookies by number, of which somebody else says which one issues: a farm, or the writer of a file.

use std::path::Path;

use tfo_common::fastopen::Key;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    error::{GivenSecretsError, KeyFileError, MOST_SECRETS},
    private_file::read_private_file,
};
use crate::model::KeyPair;

/// Longer than any file of secrets.
const MAX_LEN: u64 = 1 << 14;
/// The word behind the secret that issues cookies.
const ISSUES: &str = "issues";

/// Secrets with consecutive numbers. Their first byte stands in cookies, so one number never has two secrets.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GivenSecrets {
    /// The number of the one that issues cookies; it may be missing in a farm that has just begun to have secrets.
    pub(crate) slot: u64,
    /// The number of the last one. Those behind `slot` are staged: taken, and issued later.
    pub(crate) last: u64,
    /// All of them, the last one last.
    pub(crate) secrets: Vec<Key>,
    /// Cookies are issued; else they are only taken.
    pub(crate) issues: bool,
}

impl GivenSecrets {
    /// Most secrets.
    pub(crate) const MAX: usize = MOST_SECRETS;

    /// There is a secret to issue cookies by, and they are issued.
    pub(super) fn is_issuing(&self) -> bool {
        self.issues && self.get(self.slot).is_some()
    }

    /// The secret with a number.
    pub(crate) fn get(&self, number: u64) -> Option<&Key> {
        let back = usize::try_from(self.last.checked_sub(number)?).ok()?;
        let index = self.secrets.len().checked_sub(back + 1)?;
        self.secrets.get(index)
    }

    /// Cookies of `before` are taken or have had their time: no number has another secret, and none issues again.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        let first = (before.last + 1).saturating_sub(before.secrets.len() as u64);
        let mut known = (first..=before.last).map(|number| (before.get(number), self.get(number)));
        self.slot >= before.slot && known.all(|(before, now)| now.is_none() || now == before)
    }

    /// Reads a file that only its owner may read; see [`GivenSecrets::parse`].
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] where it cannot be read, is open to other users, or holds no secrets.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = read_private_file(path, MAX_LEN)?;
        let text = str::from_utf8(&bytes).map_err(|_| KeyFileError::not_utf8(path))?;
        Self::parse(text).map_err(|source| KeyFileError::Given {
            path: path.to_owned(),
            source,
        })
    }

    /// Parses lines `NUMBER SECRET`, with consecutive numbers; one has the word `issues` behind it. A secret is four
    /// groups of 8 hexadecimal digits, as the kernel writes a key. Empty lines and those with `#` are skipped.
    ///
    /// # Errors
    ///
    /// [`GivenSecretsError`].
    fn parse(text: &str) -> Result<Self, GivenSecretsError> {
        let mut secrets = Vec::with_capacity(Self::MAX);
        let (mut last, mut slot) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let mut words = line.split_whitespace();
            let Some(number) = words.next().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let number: u32 = number
                .parse()
                .map_err(|_| GivenSecretsError::Line(line_number))?;
            let number = u64::from(number);
            let secret = words.next().and_then(|word| KeyPair::parse(word).ok());
            let secret = secret.filter(|pair| pair.backup.is_none());
            let secret = secret.ok_or(GivenSecretsError::Line(line_number))?;
            if last.is_some_and(|last: u64| last + 1 != number) {
                return Err(GivenSecretsError::Number(line_number));
            }
            match words.next() {
                None => {}
                Some(ISSUES) if slot.is_none() && words.next().is_none() => slot = Some(number),
                Some(ISSUES) if slot.is_some() => return Err(GivenSecretsError::Issues),
                Some(_) => return Err(GivenSecretsError::Line(line_number)),
            }
            last = Some(number);
            secrets.push(secret.primary);
        }
        if secrets.len() > Self::MAX {
            return Err(GivenSecretsError::TooMany(secrets.len()));
        }
        let (Some(last), Some(slot)) = (last, slot) else {
            return Err(GivenSecretsError::Issues);
        };
        Ok(Self {
            slot,
            last,
            secrets,
            issues: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00000001-00000002-00000003-00000004";

    #[test]
    fn a_file_has_consecutive_numbers_and_one_that_issues() {
        let text = format!("# of the farm\n7 {KEY}\n\n8 {KEY} issues\n9 {KEY}\n");
        let given = GivenSecrets::parse(&text).unwrap();
        assert_eq!((given.slot, given.last, given.secrets.len()), (8, 9, 3));
        assert!(given.get(6).is_none() && given.get(10).is_none());
        assert!((7..=9).all(|number| given.get(number).is_some()));
        let next = |text: &str| GivenSecrets::parse(text).unwrap().follows(&given);
        let other = KEY.replace('1', "5");
        assert!(next(&format!("8 {KEY}\n9 {KEY} issues\n10 {other}")));
        assert!(!next(&format!("8 {other} issues\n9 {KEY}")));
        assert!(!next(&format!("6 {KEY}\n7 {KEY} issues")));
        for (text, error) in [
            (String::new(), GivenSecretsError::Issues),
            (format!("7 {KEY}"), GivenSecretsError::Issues),
            (
                format!("7 {KEY} issues\n8 {KEY} issues"),
                GivenSecretsError::Issues,
            ),
            (
                format!("7 {KEY} issues\n9 {KEY}"),
                GivenSecretsError::Number(2),
            ),
            (
                format!("7 {KEY} issues\n7 {KEY}"),
                GivenSecretsError::Number(2),
            ),
            (
                format!("{} {KEY} issues", 1_u64 << 32),
                GivenSecretsError::Line(1),
            ),
            (format!("7 {KEY} now"), GivenSecretsError::Line(1)),
            (format!("7 {KEY},{KEY} issues"), GivenSecretsError::Line(1)),
            ("7 abc issues".to_owned(), GivenSecretsError::Line(1)),
            ("x".to_owned(), GivenSecretsError::Line(1)),
        ] {
            assert_eq!(GivenSecrets::parse(&text).err(), Some(error), "{text}");
        }
        let lines = (0..=GivenSecrets::MAX).map(|number| format!("{number} {KEY}"));
        let many = lines.collect::<Vec<_>>().join("\n") + " issues";
        let error = GivenSecrets::parse(&many).err();
        assert_eq!(
            error,
            Some(GivenSecretsError::TooMany(GivenSecrets::MAX + 1))
        );
    }
}
