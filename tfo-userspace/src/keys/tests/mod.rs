//! Schedules and keeper under clock jumps, suspensions and killed processes.

use std::{cell::RefCell, collections::BTreeMap, io, time::Duration};

use tfo_common::fastopen::{Key, KeySet};

use super::*;
use crate::{
    datapath::key_change::{AcceptKeys, InstallError, IssueKeys, install, rotate},
    kernel::{clock::Now, sysctl::SysctlError},
    model::KeyPair,
};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(100);

/// Opens a source of random keys.
fn random(interval: Duration) -> impl FnOnce(SourceStart) -> Box<dyn KeySource> {
    move |start| Box::new(RandomSource::new(interval, start))
}

/// Opens the kernel as the source.
fn kernel(_start: SourceStart) -> Box<dyn KeySource> {
    Box::new(KernelSource)
}

mod derived;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Kernel and data path, and what a restarted controller finds.
#[derive(Default)]
struct TestHost {
    endpoints: RefCell<Endpoints>,
    since: Duration,
    now: Now,
}

#[derive(Default)]
struct Endpoints {
    kernel: Option<KeyPair>,
    accepted: Vec<Key>,
    kernel_fails: bool,
    /// Steps until the process is killed.
    lives: Option<u32>,
}

impl Endpoints {
    fn step(&mut self) -> Result<(), SysctlError> {
        let error = Err(SysctlError::Write {
            path: "test",
            source: io::Error::other("no"),
        });
        match &mut self.lives {
            Some(0) => return error,
            Some(lives) => *lives -= 1,
            None => {}
        }
        // Whatever the kernel accepts, the data path accepts at that moment, too.
        let issued = self.kernel.iter().flat_map(KeyPair::keys);
        assert!(issued.into_iter().all(|key| self.accepted.contains(&key)));
        Ok(())
    }
}

struct Endpoint<'a>(&'a RefCell<Endpoints>);

impl AcceptKeys for Endpoint<'_> {
    type Error = SysctlError;

    fn accept(&mut self, keys: &KeySet) -> Result<(), SysctlError> {
        let mut endpoints = self.0.borrow_mut();
        endpoints.step()?;
        endpoints.accepted = keys.keys().to_vec();
        Ok(())
    }
}

impl IssueKeys for Endpoint<'_> {
    fn pair(&self) -> Result<Option<KeyPair>, SysctlError> {
        Ok(self.0.borrow().kernel.clone())
    }

    fn issue(&mut self, pair: &KeyPair) -> Result<(), SysctlError> {
        let mut endpoints = self.0.borrow_mut();
        endpoints.step()?;
        if endpoints.kernel_fails {
            endpoints.lives = Some(0);
            endpoints.step()?;
        }
        endpoints.kernel = Some(pair.clone());
        Ok(())
    }
}

impl KeyEndpoints for TestHost {
    type Error = InstallError<SysctlError>;

    fn kernel(&self) -> Result<Option<KeyPair>, Self::Error> {
        Ok(self.endpoints.borrow().kernel.clone())
    }

    fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), Self::Error> {
        let endpoints = self.endpoints.borrow();
        Ok((
            endpoints.kernel.clone(),
            KeySet::new(endpoints.accepted.iter().copied()),
        ))
    }

    fn install(&mut self, plan: &KeyPlan) -> Result<(), Self::Error> {
        // As a namespace does: what is noted is noted before.
        let primary = self.primary();
        let before = self.since;
        if primary != Some(plan.pair.primary) {
            self.since = self.now.boot;
        }
        let (mut data_path, mut kernel) = (Endpoint(&self.endpoints), Endpoint(&self.endpoints));
        let result = install(&plan.pair, plan.staged, &mut data_path, &mut kernel);
        if result.is_err() && self.endpoints.borrow().lives.is_none() {
            self.since = before;
        }
        result
    }
}

impl TestHost {
    fn with(pair: KeyPair) -> Self {
        let host = Self {
            now: Now {
                wall: Duration::from_secs(1_700_000_000),
                boot: Duration::from_secs(5000),
            },
            since: Duration::from_secs(5000),
            ..Self::default()
        };
        host.endpoints.borrow_mut().accepted = pair.keys().collect();
        host.endpoints.borrow_mut().kernel = Some(pair);
        host
    }

    fn keeper(
        &self,
        open: impl FnOnce(SourceStart) -> Box<dyn KeySource>,
        taken_over: bool,
    ) -> Keeper {
        let (pair, accepted) = self.both().unwrap();
        let initial = InitialKeys {
            pair,
            accepted,
            age: Some(self.now.boot.saturating_sub(self.since)),
            taken_over,
        };
        Keeper::new(initial, OnForeignChange::Restore, self.now, open)
    }

    fn primary(&self) -> Option<Key> {
        let endpoints = self.endpoints.borrow();
        endpoints.kernel.as_ref().map(|pair| pair.primary)
    }

    fn pair(&self) -> KeyPair {
        self.endpoints.borrow().kernel.clone().unwrap()
    }

    fn tick(&mut self, keeper: &mut Keeper) {
        let now = self.now;
        keeper.tick(self, now);
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.boot += time;
    }
}

pub(crate) use crate::model::testing::{key, pair};

/// The time at which each key was last issued.
#[derive(Default)]
struct Issued(BTreeMap<[u8; 16], Duration>);

impl Issued {
    /// Makes sure that what was issued less than `limit` ago is accepted by both.
    fn check(&mut self, host: &TestHost, limit: Duration) {
        let pair = host.pair();
        let boot = host.now.boot;
        for (bytes, last) in &self.0 {
            let key = Key::from_bytes(*bytes);
            if boot.saturating_sub(*last) < limit {
                assert!(
                    pair.keys().any(|each| each == key),
                    "dropped after {:?}",
                    boot.saturating_sub(*last)
                );
                assert!(host.endpoints.borrow().accepted.contains(&key));
            }
        }
        self.0.insert(pair.primary.to_bytes(), boot);
    }
}

#[test]
fn a_random_key_is_staged_then_primary_then_backup() {
    let mut host = TestHost::with(pair(1, None));
    let mut keeper = host.keeper(random(INTERVAL), false);
    host.tick(&mut keeper);
    assert!(host.pair() == pair(1, None));
    let staged = host.endpoints.borrow().accepted[1];
    for _ in 0..99 {
        host.pass(SECOND);
        host.tick(&mut keeper);
        assert!(host.primary() == Some(key(1)));
    }
    assert_eq!(keeper.until_next(host.now), Some(SECOND));
    host.pass(SECOND);
    host.tick(&mut keeper);
    assert!(host.pair().keys().eq([staged, key(1)]));
    assert_eq!(host.endpoints.borrow().accepted.len(), 3);
    let report = keeper.report();
    assert_eq!((report.source, report.rotations), ("random", 1));
    assert_eq!(report.since, Some(host.now.wall_at(host.now.boot)));
    assert_eq!(
        report.next,
        Some(host.now.wall_at(host.now.boot + INTERVAL))
    );
}

#[test]
fn no_live_random_key_is_lost_to_jumps_restarts_and_kills() {
    let mut dice = Dice(1);
    let mut host = TestHost::with(pair(1, Some(2)));
    let mut keeper = host.keeper(random(INTERVAL), false);
    let mut issued = Issued::default();
    let mut killed = 0;
    for _ in 0..20_000 {
        match dice.roll(40) {
            // Suspended.
            0 => host.pass(SECOND * dice.roll(500) as u32),
            // Someone sets the clock on the wall.
            1 => host.now.wall += SECOND * dice.roll(100_000) as u32,
            2 => host.now.wall -= SECOND * dice.roll(100_000) as u32,
            3 => keeper = host.keeper(random(INTERVAL), true),
            4 => host.endpoints.borrow_mut().lives = Some(dice.roll(4) as u32),
            _ => host.pass(SECOND * dice.roll(10) as u32),
        }
        // A key of before a suspension was issued until then; what counts is when it was last issued.
        host.tick(&mut keeper);
        issued.check(&host, INTERVAL);
        let was_killed = host.endpoints.borrow().lives == Some(0);
        if was_killed {
            killed += 1;
            host.endpoints.borrow_mut().lives = None;
            keeper = host.keeper(random(INTERVAL), true);
        }
    }
    assert!(killed > 100 && issued.0.len() > 300, "{killed}");
}

#[test]
fn a_suspended_machine_changes_once() {
    let mut host = TestHost::with(pair(1, Some(2)));
    let mut keeper = host.keeper(random(INTERVAL), false);
    host.tick(&mut keeper);
    host.pass(INTERVAL * 9);
    for _ in 0..50 {
        host.tick(&mut keeper);
        assert!(host.pair().backup == Some(key(1)));
        host.pass(SECOND);
    }
}

#[test]
fn another_interval_counts_from_when_the_key_became_primary() {
    let mut host = TestHost::with(pair(1, None));
    let mut keeper = host.keeper(random(INTERVAL), false);
    host.tick(&mut keeper);
    host.pass(SECOND * 50);
    keeper.configure(OnForeignChange::Restore, host.now, random(SECOND * 60));
    assert_eq!(keeper.until_next(host.now), Some(SECOND * 10));
}

#[test]
fn a_foreign_change_is_put_right_or_followed() {
    for on_foreign_change in [OnForeignChange::Restore, OnForeignChange::Follow] {
        let mut host = TestHost::with(pair(1, Some(2)));
        let mut keeper = host.keeper(random(INTERVAL), false);
        keeper.configure(on_foreign_change, host.now, random(INTERVAL));
        host.tick(&mut keeper);
        host.pass(SECOND);
        // Nobody told the data path.
        let theirs = pair(8, Some(9));
        host.endpoints.borrow_mut().kernel = Some(theirs.clone());
        host.endpoints.borrow_mut().accepted.extend(theirs.keys());
        host.tick(&mut keeper);
        let expected = match on_foreign_change {
            OnForeignChange::Restore => pair(1, Some(2)),
            OnForeignChange::Follow => theirs,
        };
        assert!(host.pair() == expected);
        assert!(
            host.endpoints
                .borrow()
                .accepted
                .starts_with(expected.to_set().keys())
        );
        assert_eq!(keeper.report().foreign_changes, 1);
        host.pass(SECOND);
        host.tick(&mut keeper);
        assert!(host.pair() == expected);
        assert_eq!(keeper.report().foreign_changes, 1);
    }
}

#[test]
fn a_change_by_another_tfo_is_ours() {
    let mut host = TestHost::with(pair(1, Some(2)));
    let mut keeper = host.keeper(random(INTERVAL), false);
    host.tick(&mut keeper);
    host.pass(SECOND * 50);
    let (mut data_path, mut kernel) = (Endpoint(&host.endpoints), Endpoint(&host.endpoints));
    rotate(&mut data_path, &mut kernel).unwrap();
    let rotated = host.pair();
    host.tick(&mut keeper);
    assert!(host.pair() == rotated);
    assert_eq!(keeper.report().foreign_changes, 0);
    assert_eq!(keeper.until_next(host.now), Some(INTERVAL));
}

#[test]
fn the_kernels_own_keys_are_followed() {
    let mut host = TestHost::with(pair(1, None));
    let mut keeper = host.keeper(kernel, false);
    host.tick(&mut keeper);
    host.endpoints.borrow_mut().accepted.push(key(5));
    host.endpoints.borrow_mut().kernel = Some(pair(5, Some(1)));
    host.tick(&mut keeper);
    assert!(host.endpoints.borrow().accepted == [key(5), key(1)]);
    let report = keeper.report();
    assert_eq!(
        (report.rotations, report.foreign_changes, report.next),
        (1, 0, None)
    );
}

#[test]
fn what_fails_is_said_once_and_tried_again() {
    let mut host = TestHost::with(pair(1, None));
    let mut keeper = host.keeper(random(INTERVAL), false);
    host.tick(&mut keeper);
    host.pass(INTERVAL);
    host.endpoints.borrow_mut().kernel_fails = true;
    for _ in 0..3 {
        host.tick(&mut keeper);
        host.endpoints.borrow_mut().lives = None;
        let report = keeper.report();
        assert!(
            report
                .last_error
                .is_some_and(|error| error.contains("cannot write"))
        );
        assert_eq!((report.failures, report.rotations), (1, 0));
        assert!(host.pair() == pair(1, None));
        assert_eq!(keeper.until_next(host.now), None);
    }
    host.endpoints.borrow_mut().kernel_fails = false;
    host.tick(&mut keeper);
    let report = keeper.report();
    assert_eq!((report.last_error, report.rotations), (None, 1));
    assert!(host.pair().backup == Some(key(1)));
}
