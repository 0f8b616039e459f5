//! The state of a simulated farm.

/// A farm state, as an index into [`super::Model::states`].
pub(super) type Id = u8;

/// A host's record in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum SimRecord {
    /// None, or one that acknowledges nothing.
    #[default]
    None,
    Acknowledges(Id),
}

impl SimRecord {
    pub(super) const fn acknowledged(self) -> Option<Id> {
        match self {
            Self::Acknowledges(id) => Some(id),
            Self::None => None,
        }
    }
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, in any combination"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SimHost {
    /// The process runs.
    pub(super) runs: bool,
    /// The stored state.
    pub(super) disk: Option<Id>,
    /// The state whose pair the kernel has; it issues cookies with that whether the process runs or not.
    pub(super) kernel: Option<Id>,
    /// The process has put the stored state in force.
    pub(super) in_force: bool,
    /// The document has it as a member.
    pub(super) member: bool,
    /// It has stored nothing, and the document answers the challenge of its present session.
    pub(super) answered: bool,
    /// The state of a document that was read and is not stored yet.
    pub(super) read: Option<Id>,
    /// The process has accepted a document since its session began.
    pub(super) confirmed: bool,
    pub(super) record: SimRecord,
    /// An acknowledgement in flight.
    pub(super) sent: Option<SimMessage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SimMessage {
    pub(super) acknowledges: Id,
    /// Its sender no longer waits for the result.
    pub(super) orphan: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) document: Id,
    /// A leader has decided on the next document, by records as new as the present one, and its write is in flight.
    /// etcd accepts it only if the document did not change meanwhile.
    pub(super) decided: bool,
    pub(super) hosts: [SimHost; 3],
    /// Faults that may still happen in this history: a crash, a disk loss, a host that is left behind, or a connection
    /// that breaks with an acknowledgement in flight. Delays do not count.
    pub(super) faults: u8,
}

impl World {
    /// A host asks to be admitted, and the leader admits it with another document of the same state. etcd refuses what
    /// another leader decided on the document before.
    pub(super) fn admit(&mut self, index: usize) {
        self.decided = false;
        let host = &mut self.hosts[index];
        host.record = host.disk.map_or(SimRecord::None, SimRecord::Acknowledges);
        (host.member, host.answered) = (true, host.disk.is_none());
        // It asks on the present document, and has handled those before.
        host.read = None;
    }

    /// Packs the state into 77 bits.
    pub(super) fn pack(&self) -> u128 {
        // 0 for none; there are fewer than 7 states.
        let id = |id: Option<Id>| u128::from(id.map_or(0, |id| id + 1));
        let mut packed = u128::from(self.faults);
        packed = packed << 4 | u128::from(self.document) << 1 | u128::from(self.decided);
        for host in &self.hosts {
            for (value, bits) in [
                (host.runs.into(), 1),
                (host.in_force.into(), 1),
                (host.member.into(), 1),
                (host.answered.into(), 1),
                (host.confirmed.into(), 1),
                (id(host.disk), 3),
                (id(host.kernel), 3),
                (id(host.read), 3),
                (id(host.record.acknowledged()), 3),
                (id(host.sent.map(|message| message.acknowledges)), 3),
                (host.sent.is_some_and(|message| message.orphan).into(), 1),
            ] {
                packed = packed << bits | value;
            }
        }
        packed
    }
}

impl SimHost {
    /// A new session with etcd. A pending store is dropped: it would not be visible outside.
    pub(super) fn begin_session(&mut self) {
        (self.confirmed, self.read, self.answered) = (false, None, false);
    }

    /// Returns whether it may ask to be admitted: it has nothing stored and no answer, or is not a
    /// member of the document that it has in force.
    pub(super) fn may_ask(&self, document: Id) -> bool {
        let empty = self.disk.is_none() && !(self.member && self.answered);
        let current = self.disk == Some(document) && self.in_force && self.confirmed;
        self.runs && (empty || (current && !self.member))
    }

    pub(super) fn arrive(&mut self, message: SimMessage) {
        self.sent = None;
        self.record = SimRecord::Acknowledges(message.acknowledges);
    }

    /// Nobody waits for the message in flight any more.
    pub(super) fn orphan(&mut self) {
        if let Some(message) = &mut self.sent {
            message.orphan = true;
        }
    }

    /// The process ends; `cold`, its machine too, and the kernel loses its keys.
    pub(super) fn stop(&mut self, cold: bool) {
        self.orphan();
        *self = Self {
            disk: self.disk,
            kernel: self.kernel.filter(|_| !cold),
            record: self.record,
            sent: self.sent,
            member: self.member,
            ..Self::default()
        };
    }
}
