//! What a simulated farm consists of.

use super::Mistake;

/// A standing, by its number in [`Model::standings`].
pub(super) type Id = u8;

/// A host's record in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Record {
    #[default]
    None,
    /// It has acknowledged nothing yet.
    Silent,
    Acknowledges(Id),
}

impl Record {
    pub(super) const fn acknowledged(self) -> Option<Id> {
        match self {
            Self::Acknowledges(id) => Some(id),
            Self::None | Self::Silent => None,
        }
    }
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "what a host knows are facts of their own, in any combination"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host {
    /// Its process runs.
    pub(super) runs: bool,
    /// What is stored, and so what its process goes by.
    pub(super) disk: Option<Id>,
    /// Whose pair its kernel has. It serves with it, whether its process runs or not.
    pub(super) kernel: Option<Id>,
    /// The process has put in force what is stored.
    pub(super) in_force: bool,
    /// The process knows its record as it is, or as it was before the message that is on its way.
    pub(super) registered: bool,
    /// A document that was read and is not stored yet.
    pub(super) read: Option<Id>,
    /// The process has taken a document since it registered.
    pub(super) confirmed: bool,
    pub(super) record: Record,
    /// An acknowledgement on its way. It is gone when the record changes: etcd would refuse it.
    pub(super) sent: Option<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Message {
    pub(super) acknowledges: Id,
    /// Who sent it does not wait for it any more.
    pub(super) orphan: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) document: Id,
    /// A leader has decided on the next one, by records as new as the document, and its write is on its way.
    /// etcd takes it only if the document did not change meanwhile.
    pub(super) decided: bool,
    pub(super) hosts: [Host; 3],
    /// What may still go wrong in this history, beside delays: each of these is a crash, a wipe, a host that
    /// is left behind, or a connection that breaks while an acknowledgement is on its way.
    pub(super) faults: u8,
}

impl World {
    /// The same in 72 bits.
    pub(super) fn pack(&self) -> u128 {
        // From 0 for none; there are fewer than 7 standings.
        let id = |id: Option<Id>| u128::from(id.map_or(0, |id| id + 1));
        let record = |record: Record| match record {
            Record::None => 7,
            record => id(record.acknowledged()),
        };
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
                (record(host.record), 3),
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
    pub(super) fn unregister(&mut self) {
        (self.registered, self.confirmed, self.read) = (false, false, None);
    }

    /// Nobody waits for what is on its way any more.
    pub(super) fn orphan(&mut self) {
        if let Some(message) = &mut self.sent {
            message.orphan = true;
        }
    }

    /// Its process ends; with its machine, if that is `cold`.
    pub(super) fn stop(&mut self, cold: bool) {
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
pub(super) fn write_record(host: &mut Host, record: Record, mistake: Mistake) {
    host.record = record;
    host.unregister();
    if mistake != Mistake::NoCompare {
        host.sent = None;
    }
}

pub(super) fn arrive(host: &mut Host, message: Message) {
    host.sent = None;
    host.record = Record::Acknowledges(message.acknowledges);
    if message.orphan {
        host.unregister();
    }
}
