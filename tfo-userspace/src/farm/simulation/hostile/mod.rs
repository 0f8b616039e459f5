//! A farm whose etcd has an enemy: random histories from fixed seeds, with the real documents, seals and decisions.
//!
//! The enemy puts any value under any key, forged ones and all that were ever written, and deletes; it does not know
//! the seal. Beside that, hosts crash, reboot, lose their disks, are cut off from etcd and have wrong clocks; writes
//! arrive late; any host may lead at any time, several at once; operators rotate, revoke and forget.
//!
//! Safety, after each event: every key in force is one that a leader of the farm staged; no host goes back, and none is
//! admitted to what more than half of the members have left; members accept what the others issue, but while a revocation spreads;
//! none issues own cookies that a member does not take. Liveness:
//! once the enemy and the faults stop and an operator has put the latest document back, all hosts come to the same
//! keys.

mod dice;
mod enemy;
mod etcd;
mod host;
mod safety;

use std::{collections::BTreeSet, time::Duration};

use self::{
    dice::Dice,
    enemy::Enemy,
    etcd::Etcd,
    host::{Commit, HOSTS, Host, Weakness},
};
use crate::{
    farm::{
        document::Document,
        phase::{FarmState, Position},
        request::{Request, RequestKind},
        seal::Codec,
    },
    keys::Secret,
    model::testing::{key, pair},
};

/// Histories, and events in each.
const HISTORIES: u64 = 150;
const EVENTS: usize = 1400;

struct Simulation {
    dice: Dice,
    weakness: Weakness,
    seal: Option<Secret>,
    etcd: Etcd,
    hosts: Vec<Host>,
    enemy: Enemy,
    time: Duration,
    /// All states that leaders staged.
    staged: Vec<FarmState>,
    /// The latest document of a leader.
    latest: Document,
    /// The position that the last revocation led to.
    revoked: Option<Position>,
    keys: u32,
    /// Hosts issued own cookies at some time.
    issued_own: bool,
}

impl Simulation {
    fn new(seed: u64, weakness: Weakness) -> Self {
        let seal = (weakness != Weakness::NoSeal).then(|| Secret::parse(&[7; 32]).unwrap());
        let state = FarmState::first(&pair(1, None), key(1_000));
        let mut latest = Document::first("farm", state.clone(), 0, "web-0", "founding");
        for host in 0..HOSTS - 1 {
            latest
                .head
                .members
                .insert(format!("web-{host}"), String::new());
        }
        let mut etcd = Etcd::new(Codec::new("/tfo/", seal.clone()));
        etcd.put("document", latest.write(seal.as_ref()).unwrap().as_bytes());
        let mut dice = Dice::new(seed);
        let hosts = (0..HOSTS).map(|number| {
            let stored = (number < HOSTS - 1).then(|| latest.clone());
            Host::new(&format!("web-{number}"), stored, dice.below(60) as u64)
        });
        Self {
            hosts: hosts.collect(),
            dice,
            weakness,
            seal,
            etcd,
            enemy: Enemy::default(),
            time: Duration::from_secs(1000),
            staged: vec![state],
            latest,
            revoked: None,
            keys: 1,
            issued_own: false,
        }
    }

    /// One event. `rages` is whether the enemy may have it.
    fn step(&mut self, rages: bool) -> Result<(), String> {
        self.time += Duration::from_millis(self.dice.below(4000) as u64);
        let number = self.dice.below(HOSTS);
        match self.dice.below(62) {
            0..=4 => self.receive(number),
            5..=8 => self.hosts[number].put_in_force(),
            9..=12 => self.hosts[number].publish(&mut self.etcd),
            13..=16 => self.hosts[number].deliver(&mut self.etcd),
            // A host that is not interrupted.
            17..=36 => {
                self.receive(number);
                self.hosts[number].put_in_force();
                self.hosts[number].publish(&mut self.etcd);
                self.hosts[number].deliver(&mut self.etcd);
            }
            37..=47 => self.lead(number)?,
            48..=52 => {
                let floor = self.majority();
                self.hosts[number].connect(&self.etcd, floor);
            }
            53..=55 => self.elect(number),
            56 => self.fault(number),
            57 => self.operate(),
            58 | 59 => self.configure(number),
            _ if rages => self.enemy.act(&mut self.dice, &mut self.etcd, &self.latest),
            _ => {}
        }
        self.issued_own |= self.hosts.iter().any(|host| host.issues_own);
        self.check()
    }

    /// Switches own cookies on. A host joins with the configuration that the others are to have.
    fn configure(&mut self, number: usize) {
        if self.dice.one_in(2) {
            self.hosts[number].takes_own = true;
        }
        let members = &self.latest.head.members;
        for host in &mut self.hosts {
            host.takes_own |= !members.contains_key(&host.name);
        }
    }

    /// Elects a host, at times beside another one.
    fn elect(&mut self, number: usize) {
        if self.hosts.iter().all(|host| !host.leads()) || self.dice.one_in(30) {
            self.hosts[number].elect();
        }
    }

    fn receive(&mut self, number: usize) {
        for _ in 0..=self.dice.below(6) {
            let seal = self.seal.as_ref();
            self.hosts[number].receive(&self.etcd, seal, self.weakness, self.time);
        }
    }

    fn fault(&mut self, number: usize) {
        match self.dice.below(4) {
            0 => self.hosts[number].disconnect(),
            1 => self.hosts[number].stop(false),
            2 => self.hosts[number].stop(true),
            // A farm whose hosts all lost their disks needs an operator.
            _ if self.has_majority_without(number) => {
                self.hosts[number].stop(true);
                self.hosts[number].disk = None;
            }
            _ => {}
        }
    }

    /// Returns whether more than half of the members hold the latest document's position, not
    /// counting one host.
    fn has_majority_without(&self, number: usize) -> bool {
        let here = self.latest.state.position;
        let holds = |host: &Host| {
            let is = |disk: &Document| disk.state.position >= here;
            host.disk.as_ref().is_some_and(is) && self.is_member(host)
        };
        let others = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number);
        2 * others.filter(|(_, host)| holds(host)).count() > self.latest.head.members.len()
    }

    fn is_member(&self, host: &Host) -> bool {
        self.latest.head.members.contains_key(&host.name)
    }

    /// An operator puts the latest document back where it is gone, or asks for something.
    fn operate(&mut self) {
        if self.etcd.document() != Some(self.latest.head.serial) {
            return self.restore();
        }
        let kind = match self.dice.below(8) {
            0 => RequestKind::Revoke,
            1 => RequestKind::Forget(format!("web-{}", self.dice.below(HOSTS))),
            _ => RequestKind::RotateNow,
        };
        let request = Request::new(kind, &self.latest.head);
        self.etcd.put_value("request", &request);
    }

    /// As `tfo farm init --replace` on a host that has the latest document.
    fn restore(&mut self) {
        let mut disks = self.hosts.iter().filter_map(|host| host.disk.as_ref());
        if !disks.any(|disk| *disk == self.latest) {
            return;
        }
        let state = self.latest.state.clone();
        let term = format!("operator {}", self.latest.head.serial);
        self.latest = self.latest.successor(state, 0, "operator", &term);
        let text = self.latest.write(self.seal.as_ref()).unwrap();
        self.etcd.put("document", text.as_bytes());
    }

    /// One action of a host as the leader.
    fn lead(&mut self, number: usize) -> Result<(), String> {
        let fresh = key(self.keys + 1);
        let (etcd, seal) = (&mut self.etcd, self.seal.as_ref());
        let lead = self.hosts[number].lead(etcd, seal, self.weakness, (self.time, fresh));
        let Some(Commit { next, admitted }) = lead else {
            return Ok(());
        };
        if admitted {
            self.check_admission(&next)?;
        }
        self.keys += 1;
        let before = self.latest.state.position;
        let revokes = next.state.other.is_none() && next.state.position.epoch > 1;
        if revokes && next.state.position > before {
            self.revoked = Some(next.state.position);
        }
        self.staged.push(next.state.clone());
        let order = |document: &Document| (document.state.position, document.head.serial);
        if order(&next) > order(&self.latest) {
            self.latest = next;
        }
        Ok(())
    }

    /// No more faults: an operator puts the latest document back, and all hosts come to it.
    fn calm(&mut self) -> Result<(), String> {
        for host in &mut self.hosts {
            host.disconnect();
            host.deliver(&mut self.etcd);
        }
        let best = self.hosts.iter().filter_map(|host| host.disk.as_ref());
        let best = best
            .max_by_key(|disk| (disk.state.position, disk.head.serial))
            .unwrap();
        let restored = best.successor(best.state.clone(), 0, "operator", "restored");
        self.latest = restored.clone();
        self.etcd.put(
            "document",
            restored.write(self.seal.as_ref()).unwrap().as_bytes(),
        );
        let leader = self
            .hosts
            .iter()
            .position(|host| host.disk.is_some())
            .unwrap();
        let floor = self.majority();
        for host in &mut self.hosts {
            host.connect(&self.etcd, floor);
        }
        for _ in 0..60 {
            self.hosts[leader].elect_unless_leading();
            for number in 0..HOSTS {
                let seal = self.seal.clone();
                for _ in 0..50 {
                    self.hosts[number].receive(&self.etcd, seal.as_ref(), self.weakness, self.time);
                }
                self.hosts[number].put_in_force();
                self.hosts[number].publish(&mut self.etcd);
                self.hosts[number].deliver(&mut self.etcd);
                self.check()?;
            }
            self.time += Duration::from_secs(20);
            self.lead(leader)?;
        }
        let keys = self
            .hosts
            .iter()
            .map(|host| host.kernel.as_ref().map(FarmState::step));
        let keys: BTreeSet<_> = keys.collect();
        let all = self.hosts.iter().all(|host| self.is_member(host));
        // The leader may have gone on once more.
        if all && keys.len() <= 2 && !keys.contains(&None) {
            Ok(())
        } else {
            Err(format!("never settles: {:?}, {keys:?}", self.latest.head))
        }
    }
}

/// Runs all histories. Gives the first violation, the final epochs, and the number of histories with own cookies.
fn explore(weakness: Weakness) -> (Option<String>, Vec<u64>, usize) {
    let mut epochs = Vec::new();
    let mut issued_own = 0;
    for seed in 0..HISTORIES {
        let mut simulation = Simulation::new(seed, weakness);
        let mut run = || {
            for event in 0..EVENTS {
                // The enemy rests at times: otherwise nothing would ever move.
                let step = simulation.step(event % 400 < 150);
                step.map_err(|error| format!("seed {seed}, event {event}: {error}"))?;
            }
            epochs.push(simulation.latest.head.epoch);
            issued_own += usize::from(simulation.issued_own);
            if weakness == Weakness::None {
                let calm = simulation.calm();
                calm.map_err(|error| format!("seed {seed}, calm: {error}"))?;
            }
            Ok(())
        };
        if let Err(story) = run() {
            return (Some(story), epochs, issued_own);
        }
    }
    (None, epochs, issued_own)
}

#[test]
fn no_enemy_at_etcd_has_a_cookie_refused_or_a_key_return() {
    let (story, epochs, issued_own) = explore(Weakness::None);
    assert_eq!(story, None);
    let rotations: u64 = epochs.iter().sum();
    println!(
        "{rotations} epochs in {} histories, {issued_own} with own cookies",
        epochs.len()
    );
    assert!(issued_own > epochs.len() / 3, "{issued_own}");
    // The enemy holds rotations up, but the histories are not idle.
    assert!(rotations > 3 * HISTORIES, "{rotations}");
}

#[test]
fn the_enemy_wins_where_a_defence_is_missing() {
    for weakness in [
        Weakness::NoSeal,
        Weakness::NoChallenge,
        Weakness::NoOrder,
        Weakness::NoConsent,
    ] {
        let (story, ..) = explore(weakness);
        println!("{weakness:?}: {story:?}");
        assert!(story.is_some(), "{weakness:?}");
    }
}
