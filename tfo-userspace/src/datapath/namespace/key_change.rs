//! The order of a key change.
//!
//! Data path and kernel cannot switch at the same instant. So the data path accepts a key before the kernel
//! issues cookies with it, and drops one after the kernel has; in between it accepts the keys of both pairs.

use tfo_common::fastopen::{Key, KeySet};

use crate::{
    kernel::sysctl::{self, SysctlError},
    model::{KeyPair, random_key},
};

/// The side that checks cookies: the data path.
pub trait AcceptKeys {
    /// The set was not taken.
    type Error;

    /// Puts `keys` in force as a whole.
    ///
    /// # Errors
    ///
    /// The previous set is then still in force.
    fn accept(&mut self, keys: &KeySet) -> Result<(), Self::Error>;
}

/// `None` where nothing is attached: the kernel's keys change alone.
impl<D: AcceptKeys> AcceptKeys for Option<D> {
    type Error = D::Error;

    fn accept(&mut self, keys: &KeySet) -> Result<(), D::Error> {
        self.as_mut().map_or(Ok(()), |side| side.accept(keys))
    }
}

/// The side that issues cookies: the kernel.
pub trait IssueKeys {
    /// The pair in force; `None` where there is no key yet.
    ///
    /// # Errors
    ///
    /// [`SysctlError`] where it cannot be read.
    fn pair(&self) -> Result<Option<KeyPair>, SysctlError>;

    /// Puts `pair` in force as a whole.
    ///
    /// # Errors
    ///
    /// The previous pair is then still in force.
    fn issue(&mut self, pair: &KeyPair) -> Result<(), SysctlError>;

    /// Has a side without a key make one of its own; `None` where it cannot.
    ///
    /// # Errors
    ///
    /// [`SysctlError`] where it cannot be read.
    fn create(&mut self) -> Result<Option<KeyPair>, SysctlError> {
        Ok(None)
    }
}

/// `net.ipv4.tcp_fastopen_key` of the calling thread's network namespace.
pub struct KernelKeys;

impl IssueKeys for KernelKeys {
    fn pair(&self) -> Result<Option<KeyPair>, SysctlError> {
        sysctl::key()
    }

    fn issue(&mut self, pair: &KeyPair) -> Result<(), SysctlError> {
        sysctl::set_key(pair)
    }

    fn create(&mut self) -> Result<Option<KeyPair>, SysctlError> {
        sysctl::create_key()
    }
}

/// Keys did not change: the previous ones are in force on both sides.
#[derive(Debug, thiserror::Error)]
pub enum InstallError<E> {
    /// The data path refused.
    #[error("keys not changed: {0}")]
    DataPath(E),
    /// The kernel refused.
    #[error("keys not changed: {0}")]
    Kernel(#[from] SysctlError),
    /// getrandom(2) failed.
    #[error("keys not changed: no random key from the kernel: {0}")]
    Random(getrandom::Error),
}

/// Puts `new` in force on both sides. Throughout, the data path accepts every key that the kernel does; at the
/// end it accepts those of `new` and `staged`, the next primary key.
///
/// # Errors
///
/// [`InstallError`]; the previous keys then stay in force.
///
/// # Panics
///
/// Never: a set has room for two pairs.
pub fn install<D: AcceptKeys>(
    new: &KeyPair,
    staged: Option<Key>,
    data_path: &mut D,
    kernel: &mut impl IssueKeys,
) -> Result<(), InstallError<D::Error>> {
    let old = kernel.pair()?;
    if old.as_ref() != Some(new) {
        let old_keys = old.iter().flat_map(KeyPair::keys);
        let both = KeySet::new(old_keys.chain(new.keys())).expect("a set has room for two pairs");
        data_path.accept(&both).map_err(InstallError::DataPath)?;
        if let Err(error) = kernel.issue(new) {
            let back = old.map_or(KeySet::EMPTY, |old| old.to_set());
            // If this fails too, the data path accepts too many keys, and the kernel still decides.
            let _ = data_path.accept(&back);
            return Err(error.into());
        }
    }
    let accepted = KeySet::new(new.keys().chain(staged)).expect("a set has room for three keys");
    // If this fails, the data path goes on accepting the keys of both pairs.
    data_path.accept(&accepted).map_err(InstallError::DataPath)
}

/// Makes a random key primary and the previous primary key the backup. Gives the new pair.
///
/// # Errors
///
/// [`InstallError`]; the previous keys then stay in force.
pub fn rotate<D: AcceptKeys>(
    data_path: &mut D,
    kernel: &mut impl IssueKeys,
) -> Result<KeyPair, InstallError<D::Error>> {
    let new = KeyPair {
        primary: random_key().map_err(InstallError::Random)?,
        backup: kernel.pair()?.map(|old| old.primary),
    };
    install(&new, None, data_path, kernel)?;
    Ok(new)
}

/// Has the data path accept the kernel's keys. Where the kernel has none yet, it makes one, or both get a random one.
/// Gives the pair.
///
/// # Errors
///
/// [`InstallError`].
pub fn import<D: AcceptKeys>(
    data_path: &mut D,
    kernel: &mut impl IssueKeys,
) -> Result<KeyPair, InstallError<D::Error>> {
    let pair = match kernel.pair()? {
        Some(pair) => Some(pair),
        // Without a write to the sysctl, which may be read-only.
        None => kernel.create()?,
    };
    let Some(pair) = pair else {
        return rotate(data_path, kernel);
    };
    install(&pair, None, data_path, kernel)?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible, io};

    use super::*;
    use crate::model::testing::{key, pair};

    /// Both sides, and what each had in force after every step.
    struct Host {
        steps: RefCell<Vec<(Vec<Key>, Option<KeyPair>)>>,
        kernel_fails: bool,
    }

    struct Side<'a>(&'a Host);

    impl Host {
        fn with(pair: Option<KeyPair>, kernel_fails: bool) -> Self {
            let accepted = pair.iter().flat_map(KeyPair::keys).collect();
            Self {
                steps: RefCell::new(vec![(accepted, pair)]),
                kernel_fails,
            }
        }

        fn now(&self) -> (Vec<Key>, Option<KeyPair>) {
            self.steps.borrow().last().unwrap().clone()
        }

        /// At every step the data path accepts what the kernel accepts.
        fn assert_never_ahead(&self) {
            for (accepted, issued) in self.steps.borrow().iter() {
                for key in issued.iter().flat_map(KeyPair::keys) {
                    assert!(accepted.contains(&key));
                }
            }
        }
    }

    impl AcceptKeys for Side<'_> {
        type Error = Infallible;

        fn accept(&mut self, keys: &KeySet) -> Result<(), Infallible> {
            let issued = self.0.now().1;
            self.0
                .steps
                .borrow_mut()
                .push((keys.keys().to_vec(), issued));
            Ok(())
        }
    }

    impl IssueKeys for Side<'_> {
        fn pair(&self) -> Result<Option<KeyPair>, SysctlError> {
            Ok(self.0.now().1)
        }

        fn issue(&mut self, pair: &KeyPair) -> Result<(), SysctlError> {
            if self.0.kernel_fails {
                return Err(SysctlError::Write {
                    path: "test",
                    source: io::Error::other("no"),
                });
            }
            let accepted = self.0.now().0;
            self.0
                .steps
                .borrow_mut()
                .push((accepted, Some(pair.clone())));
            Ok(())
        }
    }

    #[test]
    fn the_data_path_is_first_in_and_last_out() {
        for old in [None, Some(pair(1, None)), Some(pair(1, Some(2)))] {
            for new in [pair(3, Some(1)), pair(3, Some(4)), pair(2, Some(1))] {
                let host = Host::with(old.clone(), false);
                let staged = Some(key(9));
                install(&new, staged, &mut Side(&host), &mut Side(&host)).unwrap();
                host.assert_never_ahead();
                let (accepted, issued) = host.now();
                assert!(accepted == new.keys().chain(staged).collect::<Vec<_>>());
                assert!(issued == Some(new));
            }
        }
    }

    #[test]
    fn rotation_keeps_the_old_primary_as_backup() {
        let host = Host::with(Some(pair(1, Some(2))), false);
        let new = rotate(&mut Side(&host), &mut Side(&host)).unwrap();
        host.assert_never_ahead();
        assert!(new.backup == Some(key(1)));
        assert!(new.primary != key(1));
        assert!(host.now().1 == Some(new));
    }

    #[test]
    fn import_takes_what_is_there_and_makes_what_is_not() {
        let host = Host::with(Some(pair(1, Some(2))), false);
        assert!(import(&mut Side(&host), &mut Side(&host)).unwrap() == pair(1, Some(2)));
        let host = Host::with(None, false);
        let made = import(&mut Side(&host), &mut Side(&host)).unwrap();
        assert!(made.backup.is_none() && !made.is_zero());
        assert!(host.now().1 == Some(made));
    }

    #[test]
    fn a_kernel_that_refuses_leaves_everything_as_it_was() {
        let host = Host::with(Some(pair(1, Some(2))), true);
        rotate(&mut Side(&host), &mut Side(&host)).unwrap_err();
        host.assert_never_ahead();
        let (accepted, issued) = host.now();
        assert!(accepted == [key(1), key(2)]);
        assert!(issued == Some(pair(1, Some(2))));
    }
}
