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

mod world;

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
};

use self::world::{Host, Id, Message, Record, World, arrive, write_record};
use super::phase::{Phase, Place, Standing};
use crate::keys::{KeyPair, tests::key};

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
            record: Record::Acknowledges(0),
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
        let records = world.hosts.iter().map(|host| host.record);
        let records = records.filter(|record| *record != Record::None);
        let steps = records.map(|it| it.acknowledged().map(|id| self.standing(id).step()));
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
        let news = step(old.record.acknowledged()) != step(old.kernel);
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
        if old.record != Record::None && old.record != Record::Acknowledges(world.document) {
            // Left behind.
            fault(&|host| write_record(host, Record::None, self.mistake));
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
        if host.record == Record::None || host.disk.is_none() {
            write_record(host, Record::Silent, self.mistake);
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
            .filter(|host| host.record.acknowledged().is_some());
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
                let record = host.kernel.map_or(Record::Silent, Record::Acknowledges);
                write_record(&mut host, record, self.mistake);
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
