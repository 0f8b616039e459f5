//! Schedules and keeper under clock jumps, suspensions and killed processes.

use std::{cell::RefCell, collections::BTreeMap, io, time::Duration};

use tfo_common::cookie::{Key, KeySet};

use super::*;
use crate::{
    datapath::key_change::{AcceptKeys, InstallError, IssueKeys, install, rotate},
    kernel::{clock::Now, sysctl::SysctlError},
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
struct World {
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

impl KeyEndpoints for World {
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

impl World {
    fn with(pair: KeyPair) -> Self {
        let world = Self {
            now: Now {
                wall: Duration::from_secs(1_700_000_000),
                boot: Duration::from_secs(5000),
            },
            since: Duration::from_secs(5000),
            ..Self::default()
        };
        world.endpoints.borrow_mut().accepted = pair.keys().collect();
        world.endpoints.borrow_mut().kernel = Some(pair);
        world
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

/// When each key was issued last.
#[derive(Default)]
struct Issued(BTreeMap<[u8; 16], Duration>);

impl Issued {
    /// Makes sure that what was issued less than `limit` ago is accepted by both.
    fn check(&mut self, world: &World, limit: Duration) {
        let pair = world.pair();
        let boot = world.now.boot;
        for (bytes, last) in &self.0 {
            let key = Key::from_bytes(*bytes);
            if boot.saturating_sub(*last) < limit {
                assert!(
                    pair.keys().any(|each| each == key),
                    "dropped after {:?}",
                    boot.saturating_sub(*last)
                );
                assert!(world.endpoints.borrow().accepted.contains(&key));
            }
        }
        self.0.insert(pair.primary.to_bytes(), boot);
    }
}

#[test]
fn a_random_key_is_staged_then_primary_then_backup() {
    let mut world = World::with(pair(1, None));
    let mut keeper = world.keeper(random(INTERVAL), false);
    world.tick(&mut keeper);
    assert!(world.pair() == pair(1, None));
    let staged = world.endpoints.borrow().accepted[1];
    for _ in 0..99 {
        world.pass(SECOND);
        world.tick(&mut keeper);
        assert!(world.primary() == Some(key(1)));
    }
    assert_eq!(keeper.until_next(world.now), Some(SECOND));
    world.pass(SECOND);
    world.tick(&mut keeper);
    assert!(world.pair().keys().eq([staged, key(1)]));
    assert_eq!(world.endpoints.borrow().accepted.len(), 3);
    let report = keeper.report();
    assert_eq!((report.source, report.rotations), ("random", 1));
    assert_eq!(report.since, Some(world.now.wall_at(world.now.boot)));
    assert_eq!(
        report.next,
        Some(world.now.wall_at(world.now.boot + INTERVAL))
    );
}

#[test]
fn no_live_random_key_is_lost_to_jumps_restarts_and_kills() {
    let mut dice = Dice(1);
    let mut world = World::with(pair(1, Some(2)));
    let mut keeper = world.keeper(random(INTERVAL), false);
    let mut issued = Issued::default();
    let mut killed = 0;
    for _ in 0..20_000 {
        match dice.roll(40) {
            // Suspended.
            0 => world.pass(SECOND * dice.roll(500) as u32),
            // Someone sets the clock on the wall.
            1 => world.now.wall += SECOND * dice.roll(100_000) as u32,
            2 => world.now.wall -= SECOND * dice.roll(100_000) as u32,
            3 => keeper = world.keeper(random(INTERVAL), true),
            4 => world.endpoints.borrow_mut().lives = Some(dice.roll(4) as u32),
            _ => world.pass(SECOND * dice.roll(10) as u32),
        }
        // A key of before a suspension was issued until then; what counts is when it was last issued.
        world.tick(&mut keeper);
        issued.check(&world, INTERVAL);
        let was_killed = world.endpoints.borrow().lives == Some(0);
        if was_killed {
            killed += 1;
            world.endpoints.borrow_mut().lives = None;
            keeper = world.keeper(random(INTERVAL), true);
        }
    }
    assert!(killed > 100 && issued.0.len() > 300, "{killed}");
}

#[test]
fn a_suspended_machine_changes_once() {
    let mut world = World::with(pair(1, Some(2)));
    let mut keeper = world.keeper(random(INTERVAL), false);
    world.tick(&mut keeper);
    world.pass(INTERVAL * 9);
    for _ in 0..50 {
        world.tick(&mut keeper);
        assert!(world.pair().backup == Some(key(1)));
        world.pass(SECOND);
    }
}

#[test]
fn another_interval_counts_from_when_the_key_became_primary() {
    let mut world = World::with(pair(1, None));
    let mut keeper = world.keeper(random(INTERVAL), false);
    world.tick(&mut keeper);
    world.pass(SECOND * 50);
    keeper.configure(OnForeignChange::Restore, world.now, random(SECOND * 60));
    assert_eq!(keeper.until_next(world.now), Some(SECOND * 10));
}

#[test]
fn a_foreign_change_is_put_right_or_followed() {
    for on_foreign_change in [OnForeignChange::Restore, OnForeignChange::Follow] {
        let mut world = World::with(pair(1, Some(2)));
        let mut keeper = world.keeper(random(INTERVAL), false);
        keeper.configure(on_foreign_change, world.now, random(INTERVAL));
        world.tick(&mut keeper);
        world.pass(SECOND);
        // Nobody told the data path.
        let theirs = pair(8, Some(9));
        world.endpoints.borrow_mut().kernel = Some(theirs.clone());
        world.endpoints.borrow_mut().accepted.extend(theirs.keys());
        world.tick(&mut keeper);
        let expected = match on_foreign_change {
            OnForeignChange::Restore => pair(1, Some(2)),
            OnForeignChange::Follow => theirs,
        };
        assert!(world.pair() == expected);
        assert!(
            world
                .endpoints
                .borrow()
                .accepted
                .starts_with(expected.to_set().keys())
        );
        assert_eq!(keeper.report().foreign_changes, 1);
        world.pass(SECOND);
        world.tick(&mut keeper);
        assert!(world.pair() == expected);
        assert_eq!(keeper.report().foreign_changes, 1);
    }
}

#[test]
fn a_change_by_another_tfo_is_ours() {
    let mut world = World::with(pair(1, Some(2)));
    let mut keeper = world.keeper(random(INTERVAL), false);
    world.tick(&mut keeper);
    world.pass(SECOND * 50);
    let (mut data_path, mut kernel) = (Endpoint(&world.endpoints), Endpoint(&world.endpoints));
    rotate(&mut data_path, &mut kernel).unwrap();
    let rotated = world.pair();
    world.tick(&mut keeper);
    assert!(world.pair() == rotated);
    assert_eq!(keeper.report().foreign_changes, 0);
    assert_eq!(keeper.until_next(world.now), Some(INTERVAL));
}

#[test]
fn the_kernels_own_keys_are_followed() {
    let mut world = World::with(pair(1, None));
    let mut keeper = world.keeper(kernel, false);
    world.tick(&mut keeper);
    world.endpoints.borrow_mut().accepted.push(key(5));
    world.endpoints.borrow_mut().kernel = Some(pair(5, Some(1)));
    world.tick(&mut keeper);
    assert!(world.endpoints.borrow().accepted == [key(5), key(1)]);
    let report = keeper.report();
    assert_eq!(
        (report.rotations, report.foreign_changes, report.next),
        (1, 0, None)
    );
}

#[test]
fn what_fails_is_said_once_and_tried_again() {
    let mut world = World::with(pair(1, None));
    let mut keeper = world.keeper(random(INTERVAL), false);
    world.tick(&mut keeper);
    world.pass(INTERVAL);
    world.endpoints.borrow_mut().kernel_fails = true;
    for _ in 0..3 {
        world.tick(&mut keeper);
        world.endpoints.borrow_mut().lives = None;
        let report = keeper.report();
        assert!(
            report
                .last_error
                .is_some_and(|error| error.contains("cannot write"))
        );
        assert_eq!((report.failures, report.rotations), (1, 0));
        assert!(world.pair() == pair(1, None));
        assert_eq!(keeper.until_next(world.now), None);
    }
    world.endpoints.borrow_mut().kernel_fails = false;
    world.tick(&mut keeper);
    let report = keeper.report();
    assert_eq!((report.last_error, report.rotations), (None, 1));
    assert!(world.pair().backup == Some(key(1)));
}
