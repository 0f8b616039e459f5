//! Model checking of the protocol: every order of messages, delays, crashes and disk losses for three hosts, from one
//! rotation into the next. `hostile` adds an enemy at etcd, by random histories.
//!
//! etcd is a set of atomic registers: the document, which names the members, and a record for each host. A read may be
//! stale when the host acts on it; a write may arrive late, after its process died and another started, or never; a
//! record may vanish. Any host may lead at any time: safety does not rest on there being one leader. A process may be
//! killed between any two steps, its machine may reboot or lose its disk, and the leader may leave any host behind.
//!
//! Safety: in every reachable state, each serving member accepts the cookies that every other one issues. Liveness: from
//! every state, the farm reaches the same keys everywhere once no more faults happen.

mod hostile;
mod world;

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
};

use self::world::{Id, SimHost, SimMessage, SimRecord, World};
use super::phase::{FarmState, Phase, Position};
use crate::model::testing::key;

/// Most faults in one history.
const FAULTS: u8 = 2;

/// A deliberate deviation of the model from the protocol, which the exploration must detect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// The leader does not wait for acknowledgements.
    NoWait,
    /// The leader waits for hosts that have a record, not for the document's members.
    NoMembers,
    /// A host acknowledges before it has stored.
    NoStore,
}

/// Applies a change to one host of a world.
type HostChange<'a> = &'a mut dyn FnMut(&dyn Fn(&mut World, &mut SimHost));

struct Model {
    states: Vec<FarmState>,
    mistake: Mistake,
}

impl Model {
    /// The states from one that is about to stage its next key to one that has staged the key after it.
    fn new(mistake: Mistake) -> Self {
        let mut state = FarmState::steady(1, key(2), Some(key(1)));
        state.secrets.push(key(1002));
        let mut states = vec![state.clone()];
        for next in 3.. {
            let step = Some(state.step());
            let mut made = [key(next), key(1000 + next)].into_iter();
            let fresh = || Ok::<_, Infallible>(made.next().unwrap_or(key(next)));
            let Ok(Some(to)) = state.advance([step], true, fresh) else {
                unreachable!("all hosts have acknowledged and a rotation is due")
            };
            state = to;
            states.push(state.clone());
            if state.position.epoch == 2 && state.position.phase == Phase::Stage {
                break;
            }
        }
        Self { states, mistake }
    }

    fn start() -> World {
        let host = SimHost {
            runs: true,
            disk: Some(0),
            kernel: Some(0),
            in_force: true,
            member: true,
            confirmed: true,
            record: SimRecord::Acknowledges(0),
            ..SimHost::default()
        };
        World {
            document: 0,
            decided: false,
            faults: FAULTS,
            // The first host has not joined yet.
            hosts: [SimHost::default(), host, host],
        }
    }

    fn state(&self, id: Id) -> &FarmState {
        &self.states[usize::from(id)]
    }

    /// `true` if a leader that sees `world` decides on the next document.
    fn decide(&self, world: &World) -> bool {
        let waits_for = |host: &&SimHost| match self.mistake {
            Mistake::NoMembers => host.record != SimRecord::None,
            _ => host.member,
        };
        let records = world.hosts.iter().filter(waits_for);
        let steps = records.map(|host| host.record.acknowledged().map(|id| self.state(id).step()));
        let here = self.state(world.document);
        let steps: Vec<_> = match self.mistake {
            Mistake::NoWait => vec![Some(here.step())],
            _ => steps.collect(),
        };
        // The key and the secret are those in `states`: nobody sees those of a write that etcd refuses.
        let Some(after) = self.states.get(usize::from(world.document) + 1) else {
            return false;
        };
        let key = after.other.unwrap_or(after.current);
        let mut made = [after.secrets.last().copied().unwrap_or(key), key].into_iter();
        let fresh = || Ok::<_, Infallible>(made.next_back().unwrap_or(key));
        let Ok(to) = here.advance(steps, true, fresh);
        assert!(to.as_ref().is_none_or(|to| to == after));
        to.is_some()
    }

    /// Calls `to` with every possible successor of `world`.
    fn next(&self, world: &World, mut to: impl FnMut(World)) {
        if world.decided {
            let mut next = *world;
            next.document += 1;
            next.decided = false;
            to(next);
        } else if self.decide(world) {
            to(World {
                decided: true,
                ..*world
            });
        }
        for index in 0..world.hosts.len() {
            if world.hosts[index].may_ask(world.document) {
                let mut next = *world;
                next.admit(index);
                to(next);
            }
            self.next_of(world, index, &mut to);
        }
    }

    fn next_of(&self, world: &World, index: usize, to: &mut impl FnMut(World)) {
        let old = world.hosts[index];
        let mut host = |change: &dyn Fn(&mut World, &mut SimHost)| {
            let mut world = *world;
            let mut host = old;
            change(&mut world, &mut host);
            world.hosts[index] = host;
            to(world);
        };
        if world.faults > 0 {
            Self::faults_of(old, world, &mut host);
        }
        if let Some(message) = old.sent {
            host(&|_, host| host.arrive(message));
            if message.orphan {
                host(&|_, host| host.sent = None);
            }
        }
        if !old.runs {
            return host(&|_, host| host.runs = true);
        }
        // A host that has stored nothing takes no document before one answers its challenge.
        let may_read = old.disk.is_some() || (old.member && old.answered);
        if may_read && (old.disk != Some(world.document) || !old.confirmed) {
            host(&|world, host| host.read = Some(world.document));
        }
        if let Some(id) = old.read {
            host(&|_, host| self.take(host, id));
        }
        if old.disk.is_some() && !old.in_force {
            host(&|_, host| {
                host.kernel = host.disk;
                host.in_force = true;
            });
        }
        let step = |id: Option<Id>| id.map(|id| self.state(id).step());
        let news = step(old.record.acknowledged()) != step(old.kernel);
        if old.confirmed && old.in_force && old.sent.is_none() && news {
            host(&|_, host| {
                host.sent = host.kernel.map(|acknowledges| SimMessage {
                    acknowledges,
                    orphan: false,
                });
            });
        }
    }

    fn faults_of(old: SimHost, world: &World, host: HostChange<'_>) {
        let mut fault = |change: &dyn Fn(&mut World, &mut SimHost)| {
            host(&|world, host| {
                world.faults -= 1;
                change(world, host);
            });
        };
        if old.sent.is_some_and(|message| !message.orphan) {
            fault(&|_, host| {
                host.orphan();
                host.begin_session();
            });
        }
        if old.record != SimRecord::None {
            fault(&|_, host| host.record = SimRecord::None);
        }
        if old.member && old.record != SimRecord::Acknowledges(world.document) {
            // The leader leaves the host behind.
            fault(&|world, host| {
                // etcd refuses what another leader decided on the document before.
                world.decided = false;
                (host.member, host.answered) = (false, false);
            });
        }
        if old.runs {
            fault(&|_, host| host.stop(false));
        }
        // The machine reboots, with and without its disk.
        fault(&|_, host| host.stop(true));
        fault(&|_, host| {
            host.stop(true);
            host.disk = None;
        });
    }

    /// Stores the document that was read, if it is newer.
    fn take(&self, host: &mut SimHost, id: Id) {
        host.read = None;
        let held = host.disk.map(|id| self.state(id));
        match self.state(id).replaces(held) {
            Ok(true) => {
                (host.confirmed, host.answered) = (true, false);
                host.in_force = self.mistake == Mistake::NoStore;
                if host.in_force {
                    host.kernel = Some(id);
                } else {
                    host.disk = Some(id);
                }
            }
            Ok(false) => host.confirmed = true,
            Err(_) => {}
        }
    }

    /// Two serving members, issuer and refuser, of which one refuses the other's cookies, the kernel's or own ones.
    fn refused(&self, world: &World) -> Option<(Position, Position)> {
        let serving = world.hosts.iter().filter(|host| host.member);
        let serving = serving.filter_map(|host| host.kernel);
        let serving: Vec<_> = serving.map(|id| self.state(id)).collect();
        serving.iter().find_map(|issuer| {
            let refuser = serving
                .iter()
                .find(|other| !other.takes_cookies_of(issuer))?;
            Some((issuer.position, refuser.position))
        })
    }

    /// Runs `world` without further faults, and gives the final state.
    fn calm(&self, mut world: World) -> World {
        for _ in 0..100 {
            let before = world;
            if world.decided || self.decide(&world) {
                world.document += 1;
                world.decided = false;
            }
            for index in 0..world.hosts.len() {
                let mut host = world.hosts[index];
                host.runs = true;
                if let Some(message) = host.sent {
                    host.arrive(message);
                }
                if host.disk.is_some() || (host.member && host.answered) {
                    self.take(&mut host, world.document);
                }
                host.kernel = host.disk;
                host.in_force = host.disk.is_some();
                // The acknowledgement arrives at once.
                host.record = host.kernel.map_or(host.record, SimRecord::Acknowledges);
                world.hosts[index] = host;
                if host.may_ask(world.document) {
                    world.admit(index);
                }
            }
            if world == before {
                break;
            }
        }
        world
    }

    /// Explores all states. Gives their number, and a description of the first that violates safety.
    fn explore(&self) -> (usize, Option<String>) {
        let start = Self::start();
        let mut seen = HashSet::from([start.pack()]);
        let mut queue = VecDeque::from([start]);
        while let Some(world) = queue.pop_front() {
            if let Some((issuer, refuser)) = self.refused(&world) {
                let story = format!("{issuer} is refused by {refuser}: {world:#?}");
                return (seen.len(), Some(story));
            }
            // Liveness is checked from a sample of the states.
            if self.mistake == Mistake::None && seen.len().is_multiple_of(64) {
                self.ensure_ends_well(world);
            }
            self.next(&world, |mut next| {
                // Hosts are interchangeable.
                next.hosts.sort_unstable();
                if seen.insert(next.pack()) {
                    queue.push_back(next);
                }
            });
        }
        (seen.len(), None)
    }

    fn ensure_ends_well(&self, world: World) {
        let calm = self.calm(world);
        let rests = |host: &SimHost| host.kernel == Some(calm.document);
        assert!(
            usize::from(calm.document) == self.states.len() - 1 && calm.hosts.iter().all(rests),
            "{world:#?}\n{calm:#?}"
        );
    }
}

#[test]
fn no_order_of_events_has_a_cookie_refused() {
    let (states, story) = Model::new(Mistake::None).explore();
    println!("{states} states");
    assert_eq!(story, None);
    assert!(states > 100_000);
}

#[test]
fn the_simulation_notices_mistakes() {
    for mistake in [Mistake::NoWait, Mistake::NoMembers, Mistake::NoStore] {
        let (states, story) = Model::new(mistake).explore();
        assert!(story.is_some(), "{}: {states} states", mistake as u8);
    }
}
