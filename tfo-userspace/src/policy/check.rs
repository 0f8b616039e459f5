//! Rules that the data path cannot carry out.

use tfo_common::policy::{Action, Class};

use crate::model::PortPolicy;

impl PortPolicy {
    /// Refuses actions that cannot be carried out.
    ///
    /// # Errors
    ///
    /// The mistake and its remedy.
    pub(crate) fn check(&self) -> Result<(), String> {
        let action = |class: Class| self.actions[class as usize];
        if action(Class::Request) == Action::Reissue {
            return Err(
                "request = \"reissue\": the SYN is a cookie request already; use pass, fallback or drop"
                    .into(),
            );
        }
        if matches!(action(Class::Data), Action::Reissue | Action::Fallback) {
            return Err(format!(
                "data = {:?}: such a SYN has no option to rewrite; use pass or drop",
                action(Class::Data).name()
            ));
        }
        if matches!(self.no_cookie, Action::Reissue | Action::Fallback) {
            return Err(format!(
                "no-cookie = {:?}: a rewritten option does not stop data where no cookie is needed; use pass or drop",
                self.no_cookie.name()
            ));
        }
        let others = [
            ("bad", action(Class::Bad)),
            ("request", action(Class::Request)),
            ("data", action(Class::Data)),
            ("denied", self.denied),
            ("no-cookie", self.no_cookie),
        ];
        if let Some((name, _)) = others.iter().find(|(_, action)| *action == Action::Once) {
            return Err(format!(
                "{name} = \"once\": the kernel takes no data of such SYNs; once is for valid alone"
            ));
        }
        Ok(())
    }
}
