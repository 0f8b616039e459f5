//! Who may write anything below the farm's prefix, and knows all that was ever there but not the seal.

use super::{dice::Dice, etcd::Etcd, host::HOSTS};
use crate::{
    farm::{
        document::Document,
        host_record::HostRecord,
        request::{Request, RequestKind},
        seal::Codec,
    },
    keys::Secret,
    model::testing::key,
};

#[derive(Default)]
pub(super) struct Enemy {
    forged: u32,
}

impl Enemy {
    pub(super) fn act(&mut self, dice: &mut Dice, etcd: &mut Etcd, latest: &Document) {
        if dice.one_in(8) {
            return Self::rewind(dice, etcd);
        }
        let name = match dice.below(6) {
            0 | 1 => "document".to_owned(),
            2 => "request".to_owned(),
            _ => format!("hosts/web-{}", dice.below(HOSTS)),
        };
        match dice.below(14) {
            0 => etcd.force(&name, None),
            1 => etcd.force(&name, Some(b"\"revoke\"".to_vec())),
            2 | 3 => {
                let forged = self.forge(dice, &name, latest);
                etcd.force(&name, Some(forged));
            }
            // What stood there before, so that the farm can go on meanwhile.
            4..=8 => {
                let last = etcd.history.iter().rev().find(|(key, _)| *key == name);
                let last = last.map(|(_, value)| value.clone());
                etcd.force(&name, last);
            }
            9..=12 => {
                // One that stood there earlier, more often a late one.
                let values = etcd.history.iter().filter(|(key, _)| *key == name);
                let values: Vec<_> = values.map(|(_, value)| value).collect();
                if !values.is_empty() {
                    let span = values.len().min(if dice.one_in(3) { 1000 } else { 4 });
                    let value = values[values.len() - 1 - dice.below(span)].clone();
                    etcd.force(&name, Some(value));
                }
            }
            // One that stood under another key.
            _ => {
                let (_, value) = &etcd.history[dice.below(etcd.history.len())];
                let value = value.clone();
                etcd.force(&name, Some(value));
            }
        }
    }

    /// Puts all back as it was, not long ago.
    fn rewind(dice: &mut Dice, etcd: &mut Etcd) {
        let span = etcd.history.len().min(40);
        let past = etcd.history.len() - dice.below(span);
        let mut names = vec!["document".to_owned()];
        names.extend((0..HOSTS).map(|number| format!("hosts/web-{number}")));
        for name in names {
            let values = etcd.history[..past].iter().rev();
            let last = values.clone().find(|(key, _)| *key == name);
            let last = last.map(|(_, value)| value.clone());
            etcd.force(&name, last);
        }
    }

    /// A value that would do harm, with what the enemy knows: the document's head, and every format.
    fn forge(&mut self, dice: &mut Dice, name: &str, latest: &Document) -> Vec<u8> {
        // In the clear, or under a seal of its own.
        let seal = dice.one_in(2).then(|| Secret::parse(&[8; 32]).unwrap());
        let codec = Codec::new("/tfo/", seal.clone());
        match name {
            "document" => {
                self.forged += 1;
                let mut state = latest.state.clone();
                state.position.epoch += 1;
                state.current = key(1_000_000 + self.forged);
                let next = latest.successor(state, 0, "web-0", "forged");
                next.write(seal.as_ref()).unwrap().as_bytes().to_vec()
            }
            "request" => {
                let request = Request::new(RequestKind::Revoke, &latest.head);
                codec.write(name, &request).unwrap()
            }
            _ => {
                let record = HostRecord {
                    farm: latest.head.farm.clone(),
                    step: Some(latest.state.step()),
                    term: latest.head.term.clone(),
                    ..HostRecord::default()
                };
                codec.write(name, &record).unwrap()
            }
        }
    }
}
