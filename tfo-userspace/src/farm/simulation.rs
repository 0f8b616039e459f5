//! Every order of messages, delays, crashes and wipes for three hosts, through a rotation into the next.
//!
//! etcd is one place where writes are whole: the document, and a record for each member. Whatever a host
//! reads may be old by the time it acts on it, whatever it writes may arrive late, after its process died and
//! another was started, or never. Any host may lead at any time: that there is one leader is not what makes
//! it safe. A process may be killed between any two steps, its machine may start anew, or lose its disk; the
//! leader may leave behind whoever it likes.
//!
//! In every state that can be reached, each member that serves accepts what every other one issues; and from
//! every state the farm comes to rest with the same keys everywhere, once nothing more goes wrong.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
};

use super::phase::{Phase, Place, Standing};
use crate::keys::{KeyPair, tests::key};

/// A standing, by its number in [`Model::standings`].
type Id = u8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Host {
    /// Its process runs.
    runs: bool,
    /// What is stored, and so what its process goes by.
    disk: Option<Id>,
    /// Whose pair its kernel has. It serves with it, whether its process runs or not.
    kernel: Option<Id>,
    /// The process has put in force what is stored.
    in_force: bool,
    /// The process knows its record as it is, or as it was before the message that is on its way.
    registered: bool,
    /// A document that was read and is not stored yet.
    read: Option<Id>,
    /// The process has taken a document since it registered.
    confirmed: bool,
    /// Its record in etcd: what it has acknowledged.
    record: Option<Option<Id>>,
    /// An acknowledgement on its way. It is gone when the record changes: etcd would refuse it.
    sent: Option<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    acknowledges: Id,
    /// Who sent it does not wait for it any more.
    orphan: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    document: Id,
    /// A leader has decided on the next one, by records as new as the document, and its write is on its way.
    /// etcd takes it only if the document did not change meanwhile.
    decided: bool,
    hosts: [Host; 3],
    /// What may still go wrong in this history, beside delays: each of these is a crash, a wipe, a host that
    /// is left behind, or a connection that breaks while an acknowledgement is on its way.
    faults: u8,
}

/// The most that goes wrong in one history.
const FAULTS: u8 = 2;

/// What the model does otherwise than the farm, to see that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// A leader that goes on without waiting.
    NoWait,
    /// A host that acknowledges what it had before it came back.
    NoConfirmation,
    /// A host that acknowledges before it has stored.
    NoStore,
    /// A message that is taken although the record changed.
    NoCompare,
}

/// Takes one host of a world to another state.
type Change<'a> = &'a mut dyn FnMut(&dyn Fn(&mut World, &mut Host));

struct Model {
    standings: Vec<Standing>,
    mistake: Mistake,
}

impl Model {
    /// From a farm that is about to stage its next key to one that has staged the one after.
    fn new(mistake: Mistake) -> Self {
        let mut standing = Standing {
            place: Place {
                epoch: 1,
                phase: Phase::Steady,
            },
            current: key(2),
            other: Some(key(1)),
        };
        let mut standings = vec![standing.clone()];
        for next in 3.. {
            let step = Some(standing.step());
            let fresh = || Ok::<_, Infallible>(key(next));
            let Ok(Some(to)) = standing.advance([step], true, fresh) else {
                unreachable!("it has all acknowledgements and is due")
            };
            standing = to;
            standings.push(standing.clone());
            if standing.place.epoch == 2 && standing.place.phase == Phase::Stage {
                break;
            }
        }
        Self { standings, mistake }
    }

    fn start() -> World {
        let host = Host {
            runs: true,
            disk: Some(0),
            kernel: Some(0),
            in_force: true,
            registered: true,
            confirmed: true,
            record: Some(Some(0)),
            ..Host::default()
        };
        World {
            document: 0,
            decided: false,
            faults: FAULTS,
            // The third one has yet to join.
            hosts: [Host::default(), host, host],
        }
    }

    fn standing(&self, id: Id) -> &Standing {
        &self.standings[usize::from(id)]
    }

    /// Where the farm goes from `world`, by what a leader sees there.
    fn decide(&self, world: &World) -> bool {
        let records = world.hosts.iter().filter_map(|host| host.record);
        let steps = records.map(|id| id.map(|id| self.standing(id).step()));
        let here = self.standing(world.document);
        let steps: Vec<_> = match self.mistake {
            Mistake::NoWait => vec![Some(here.step())],
            _ => steps.collect(),
        };
        // The key is the one that the chain has at that place: writes that etcd refuses are seen by nobody.
        let Some(after) = self.standings.get(usize::from(world.document) + 1) else {
            return false;
        };
        let fresh = || Ok::<_, Infallible>(after.other.unwrap_or(after.current));
        let Ok(to) = here.advance(steps, true, fresh);
        assert!(to.as_ref().is_none_or(|to| to == after));
        to.is_some()
    }

    /// Everything that may happen next.
    fn next(&self, world: &World, mut to: impl FnMut(World)) {
        if world.decided {
            to(World {
                document: world.document + 1,
                decided: false,
                ..*world
            });
        } else if self.decide(world) {
            to(World {
                decided: true,
                ..*world
            });
        }
        for index in 0..world.hosts.len() {
            self.next_of(world, index, &mut to);
        }
    }

    fn next_of(&self, world: &World, index: usize, to: &mut impl FnMut(World)) {
        let old = world.hosts[index];
        let mut host = |change: &dyn Fn(&mut World, &mut Host)| {
            let mut world = *world;
            let mut host = old;
            change(&mut world, &mut host);
            world.hosts[index] = host;
            to(world);
        };
        if world.faults > 0 {
            self.faults_of(old, world, &mut host);
        }
        if let Some(message) = old.sent {
            host(&|_, host| arrive(host, message));
            if message.orphan {
                host(&|_, host| host.sent = None);
            }
        }
        if !old.runs {
            return host(&|_, host| host.runs = true);
        }
        if !old.registered {
            host(&|_, host| self.register(host));
        } else if old.disk != Some(world.document) || !old.confirmed {
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
        let confirmed = old.confirmed || self.mistake == Mistake::NoConfirmation;
        let step = |id: Option<Id>| id.map(|id| self.standing(id).step());
        let news = step(old.record.flatten()) != step(old.kernel);
        if old.registered && confirmed && old.in_force && old.sent.is_none() && news {
            host(&|_, host| {
                host.sent = host.kernel.map(|acknowledges| Message {
                    acknowledges,
                    orphan: false,
                });
            });
        }
    }

    fn faults_of(&self, old: Host, world: &World, host: Change<'_>) {
        let mut fault = |change: &dyn Fn(&mut Host)| {
            host(&|world, host| {
                world.faults -= 1;
                change(host);
            });
        };
        if old.sent.is_some_and(|message| !message.orphan) {
            fault(&|host| {
                host.orphan();
                host.unregister();
            });
        }
        if old.record.is_some() && old.record != Some(Some(world.document)) {
            // Left behind.
            fault(&|host| write_record(host, None, self.mistake));
        }
        if old.runs {
            fault(&|host| host.stop(false));
        }
        // The machine is started anew; then without what it had stored.
        fault(&|host| host.stop(true));
        fault(&|host| {
            host.stop(true);
            host.disk = None;
        });
    }

    /// Finds its record, or makes one. Whoever has nothing stored says that it has acknowledged nothing.
    fn register(&self, host: &mut Host) {
        if host.record.is_none() || host.disk.is_none() {
            write_record(host, Some(None), self.mistake);
        }
        host.registered = true;
        host.confirmed = false;
        // What was read before does not count.
        host.read = None;
    }

    /// Stores what was read, if it is newer.
    fn take(&self, host: &mut Host, id: Id) {
        host.read = None;
        let held = host.disk.map(|id| self.standing(id));
        match self.standing(id).replaces(held) {
            Ok(true) => {
                host.confirmed = true;
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

    /// Two members that serve, of which one refuses what the other issues.
    fn refused(&self, world: &World) -> Option<(Place, Place)> {
        let pair = |id: Id| -> (Place, KeyPair) {
            let standing = self.standing(id);
            (standing.place, standing.pair())
        };
        let serving = world
            .hosts
            .iter()
            .filter(|host| host.record.flatten().is_some());
        let serving: Vec<_> = serving.filter_map(|host| host.kernel).map(pair).collect();
        serving.iter().find_map(|(issuer, issued)| {
            let refuses =
                |(_, pair): &&(Place, KeyPair)| !pair.keys().any(|it| it == issued.primary);
            Some((*issuer, serving.iter().find(refuses)?.0))
        })
    }

    /// Lets all go well from here, and gives what it comes to.
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
                    arrive(&mut host, message);
                }
                if !host.registered {
                    self.register(&mut host);
                }
                self.take(&mut host, world.document);
                host.kernel = host.disk;
                host.in_force = true;
                // As an acknowledgement that arrives at once.
                let kernel = host.kernel;
                write_record(&mut host, Some(kernel), self.mistake);
                host.registered = true;
                world.hosts[index] = host;
            }
            if world == before {
                break;
            }
        }
        world
    }

    /// Goes through all states. Gives their number, and the first in which someone is refused, if there is
    /// one.
    fn explore(&self) -> (usize, Option<String>) {
        let start = Self::start();
        let mut seen = HashSet::from([start.pack()]);
        let mut queue = VecDeque::from([start]);
        while let Some(world) = queue.pop_front() {
            if let Some((issuer, refuser)) = self.refused(&world) {
                let story = format!("{issuer} is refused by {refuser}: {world:#?}");
                return (seen.len(), Some(story));
            }
            // That it ends well is tried from some of them.
            if self.mistake == Mistake::None && seen.len().is_multiple_of(64) {
                self.ensure_ends_well(world);
            }
            self.next(&world, |mut next| {
                // Hosts are alike: their order tells nothing.
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
        let rests = |host: &Host| host.kernel == Some(calm.document);
        assert!(
            usize::from(calm.document) == self.standings.len() - 1 && calm.hosts.iter().all(rests),
            "{world:#?}\n{calm:#?}"
        );
    }
}

impl World {
    /// The same in 72 bits.
    fn pack(&self) -> u128 {
        // From 0 for none; there are fewer than 7 standings.
        let id = |id: Option<Id>| u128::from(id.map_or(0, |id| id + 1));
        let mut packed = u128::from(self.faults);
        packed = packed << 4 | u128::from(self.document) << 1 | u128::from(self.decided);
        for host in &self.hosts {
            for (value, bits) in [
                (host.runs.into(), 1),
                (host.in_force.into(), 1),
                (host.registered.into(), 1),
                (host.confirmed.into(), 1),
                (id(host.disk), 3),
                (id(host.kernel), 3),
                (id(host.read), 3),
                (host.record.map_or(7, id), 3),
                (id(host.sent.map(|message| message.acknowledges)), 3),
                (host.sent.is_some_and(|message| message.orphan).into(), 1),
            ] {
                packed = packed << bits | value;
            }
        }
        packed
    }
}

impl Host {
    /// Its process does not know its record any more. What it was about to store, it has stored already, or
    /// never will: to store changes nothing outside.
    fn unregister(&mut self) {
        (self.registered, self.confirmed, self.read) = (false, false, None);
    }

    /// Nobody waits for what is on its way any more.
    fn orphan(&mut self) {
        if let Some(message) = &mut self.sent {
            message.orphan = true;
        }
    }

    /// Its process ends; with its machine, if that is `cold`.
    fn stop(&mut self, cold: bool) {
        self.orphan();
        *self = Self {
            disk: self.disk,
            kernel: self.kernel.filter(|_| !cold),
            record: self.record,
            sent: self.sent,
            ..Self::default()
        };
    }
}

/// A record changes otherwise than by the message that is on its way.
fn write_record(host: &mut Host, record: Option<Option<Id>>, mistake: Mistake) {
    host.record = record;
    host.unregister();
    if mistake != Mistake::NoCompare {
        host.sent = None;
    }
}

fn arrive(host: &mut Host, message: Message) {
    host.sent = None;
    host.record = Some(Some(message.acknowledges));
    if message.orphan {
        host.unregister();
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
    for mistake in [
        Mistake::NoWait,
        Mistake::NoConfirmation,
        Mistake::NoStore,
        Mistake::NoCompare,
    ] {
        let (states, story) = Model::new(mistake).explore();
        assert!(story.is_some(), "{}: {states} states", mistake as u8);
    }
}
