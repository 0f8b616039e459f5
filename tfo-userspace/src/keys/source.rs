//! A source of keys at work, with what it has to remember.

use std::time::Duration;

use tfo_common::cookie::Key;

use super::text;
use crate::{
    farm::{Link, phase::Standing},
    kernel::clock::Now,
    keys::{
        KeyPair, Plan, RandomSchedule, Secret, SecretSchedule, SourceConfig, read_file,
        source::Watched,
    },
    model::random_key,
};

/// Where keys come from.
pub(super) enum Source {
    Random(RandomSchedule),
    Secret {
        file: Watched,
        secret: Option<Secret>,
        schedule: SecretSchedule,
    },
    File {
        file: Watched,
        pair: Option<KeyPair>,
    },
    /// `standing` is what is to be in force; whoever asks etcd waits at the other end of the link.
    Etcd {
        link: Option<Link>,
        standing: Option<Standing>,
    },
    Kernel,
}

impl Source {
    /// `in_force` since `since`; `last` was primary until now, and clients hold its cookies.
    pub(super) fn new(
        config: &SourceConfig,
        in_force: Option<Plan>,
        since: Duration,
        last: Option<Key>,
        now: Now,
    ) -> Self {
        match (config.clone(), in_force) {
            (SourceConfig::Random { interval }, Some(plan)) => {
                Self::Random(RandomSchedule::resume(interval, plan, since))
            }
            // Attaching gives a kernel that has no key a random one, so that there is one to go on from.
            (SourceConfig::Random { .. } | SourceConfig::Kernel, _) => Self::Kernel,
            (SourceConfig::Secret { path, interval }, _) => Self::Secret {
                file: Watched::new(path),
                secret: None,
                schedule: SecretSchedule::new(interval, last, now),
            },
            (SourceConfig::File { path }, _) => Self::File {
                file: Watched::new(path),
                pair: None,
            },
            (SourceConfig::Etcd(_), _) => Self::Etcd {
                link: None,
                standing: None,
            },
        }
    }

    /// Reads its file, where that changed. What was read before is kept where this fails.
    pub(super) fn refresh(&mut self) -> Result<(), String> {
        match self {
            Self::Secret { file, secret, .. } => {
                if let Some(new) = file.read_if_changed(Secret::read).map_err(text)? {
                    *secret = Some(new);
                }
            }
            Self::File { file, pair } => {
                if let Some(new) = file.read_if_changed(read_file).map_err(text)? {
                    *pair = Some(new);
                }
            }
            Self::Etcd { link, standing } => {
                if let Some(link) = link {
                    standing.clone_from(&link.offered.borrow());
                }
            }
            Self::Random(_) | Self::Kernel => {}
        }
        Ok(())
    }

    /// What is to be in force; `None` where what the kernel has is right.
    pub(super) fn plan(&self, now: Now, kernel: Option<&KeyPair>) -> Result<Option<Plan>, String> {
        let plain = |pair: &KeyPair| Plan {
            pair: pair.clone(),
            staged: None,
        };
        Ok(match self {
            Self::Random(schedule) => Some(
                schedule
                    .plan(now, random_key)
                    .map_err(|error| format!("no random key from the kernel: {error}"))?,
            ),
            Self::Secret {
                secret, schedule, ..
            } => secret.as_ref().map(|secret| schedule.plan(secret, now)),
            Self::File { pair, .. } => pair.as_ref().map(plain),
            Self::Etcd { standing, .. } => standing.as_ref().map(|it| plain(&it.pair())),
            Self::Kernel => kernel.map(plain),
        })
    }

    /// A plan is in force.
    pub(super) fn done(&mut self, plan: &Plan, now: Now) {
        match self {
            Self::Random(schedule) => schedule.done(plan, now),
            Self::Secret {
                secret: Some(secret),
                schedule,
                ..
            } => schedule.done(secret, now),
            _ => {}
        }
    }

    /// When the next change is due, by [`Now::boot`].
    pub(super) fn next(&self, now: Now) -> Option<Duration> {
        match self {
            Self::Random(schedule) => Some(schedule.due()),
            Self::Secret { schedule, .. } => Some(now.boot + schedule.next(now)),
            Self::File { .. } | Self::Etcd { .. } | Self::Kernel => None,
        }
    }
}
