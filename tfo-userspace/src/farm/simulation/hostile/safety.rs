//! Properties that must hold after each event.

use super::Simulation;
use crate::farm::{
    document::Document,
    phase::{FarmState, Position},
};

impl Simulation {
    /// No host without a document is admitted to a state that more than half of the members have left.
    pub(super) fn check_admission(&self, next: &Document) -> Result<(), String> {
        let (to, farm) = (next.state.position, self.majority());
        if to < farm {
            return Err(format!("admitted to {to}, and the farm is at {farm}"));
        }
        Ok(())
    }

    /// The latest position that more than half of the members with a document have reached.
    pub(super) fn majority(&self) -> Position {
        let members = self.hosts.iter().filter(|host| self.is_member(host));
        let held = members.filter_map(|host| host.disk.as_ref());
        let mut held: Vec<_> = held.map(|document| document.state.position).collect();
        held.sort_unstable_by(|one, other| other.cmp(one));
        held.get(held.len() / 2)
            .copied()
            .unwrap_or(self.staged[0].position)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for host in &self.hosts {
            let Some(state) = &host.kernel else { continue };
            if !self.staged.contains(state) {
                return Err(format!(
                    "{}: a key that nobody staged, {}",
                    host.name, state.position
                ));
            }
            if let Some(problem) = &host.problem {
                return Err(format!("{}: {problem}", host.name));
            }
        }
        let serving = self
            .hosts
            .iter()
            .filter(|host| self.is_member(host) && host.serves);
        let serving: Vec<_> = serving
            .filter_map(|host| Some((host, host.kernel.as_ref()?)))
            .collect();
        // A revocation waits for nobody.
        let over = |state: &FarmState| self.revoked.is_none_or(|revoked| state.position >= revoked);
        if !serving.iter().all(|(_, state)| over(state)) {
            return Ok(());
        }
        for (issuer, issued) in &serving {
            for (refuser, state) in &serving {
                let takes = refuser.takes_own && state.takes_cookies_of(issued);
                if !state.pair().keys().any(|key| key == issued.current)
                    || (issuer.issues_own && !takes)
                {
                    return Err(format!(
                        "{} at {} is refused by {} at {}, own cookies: {} {}",
                        issuer.name,
                        issued.position,
                        refuser.name,
                        state.position,
                        issuer.issues_own,
                        refuser.takes_own,
                    ));
                }
            }
        }
        Ok(())
    }
}
