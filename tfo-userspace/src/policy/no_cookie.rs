//! Rules that rewrite the option at listeners that accept data without a cookie: removing the option keeps no data out
//! there.

use tfo_common::policy::Action;

use crate::{
    datapath::ListeningSocket,
    kernel::sysctl::Mode,
    model::{Policy, PortPolicy},
};

/// A rule rewrites the Fast Open option where the listener accepts data without it.
#[derive(Debug, thiserror::Error)]
#[error("{}; {}", self.found(), self.remedy())]
pub struct NoCookieError {
    /// `None` for the default rule.
    port: Option<u16>,
    cause: String,
    remedy: &'static str,
}

impl NoCookieError {
    /// The rule, and why it has no effect.
    pub fn found(&self) -> String {
        let rule = match self.port {
            Some(port) => format!("the rule of port {port}"),
            None => "the default rule".to_owned(),
        };
        let cause = &self.cause;
        format!("{rule} rewrites Fast Open options, which does not keep data out: {cause}")
    }

    /// The flag or the line of the file to add.
    pub fn remedy(&self) -> String {
        let section = match self.port {
            Some(port) => format!("port.{port}"),
            None => "default".to_owned(),
        };
        format!(
            "add --no-cookie drop (in a file: no-cookie = \"drop\" in [policy.{section}]), or {}",
            self.remedy
        )
    }
}

impl Policy {
    /// `true` if a rule rewrites options, so that [`Self::check_listeners`] may fail. Other policies need no list of
    /// listeners, for which a program must be loaded.
    pub fn needs_cookies(&self) -> bool {
        let denies = !self.lists.deny.is_empty();
        self.port_policies().any(|rule| rule.needs_cookies(denies))
    }

    /// Refuses rules that rewrite options at listeners that accept data without a cookie: all of them with bit 0x200 of
    /// `mode`, `net.ipv4.tcp_fastopen`; else those of `sockets` that have set `TCP_FASTOPEN_NO_COOKIE`.
    ///
    /// # Errors
    ///
    /// [`NoCookieError`] for the first such rule.
    pub fn check_listeners(
        &self,
        mode: Mode,
        sockets: &[ListeningSocket],
    ) -> Result<(), NoCookieError> {
        let denies = !self.lists.deny.is_empty();
        if mode.no_cookie() {
            let ports = self.ports.iter().map(|(port, rule)| (Some(*port), rule));
            let mut rules = std::iter::once((None, &self.default)).chain(ports);
            if let Some((port, _)) = rules.find(|(_, rule)| rule.needs_cookies(denies)) {
                return Err(NoCookieError {
                    port,
                    cause: format!(
                        "net.ipv4.tcp_fastopen = {} has bit 0x200, so listeners accept data without a cookie",
                        mode.0
                    ),
                    remedy: "clear the bit",
                });
            }
        }
        for socket in sockets.iter().filter(|socket| socket.no_cookie) {
            let number = socket.address.port();
            let (port, rule) = match self.ports.get(&number) {
                Some(rule) => (Some(number), rule),
                None => (None, &self.default),
            };
            if rule.needs_cookies(denies) {
                return Err(NoCookieError {
                    port,
                    cause: format!(
                        "the listener {} accepts data without a cookie (TCP_FASTOPEN_NO_COOKIE)",
                        socket.name()
                    ),
                    remedy: "configure the application not to set it",
                });
            }
        }
        Ok(())
    }
}

impl PortPolicy {
    /// `true` if the rule rewrites options, and does not drop instead where the listener needs no cookie.
    fn needs_cookies(&self, denies: bool) -> bool {
        self.no_cookie != Action::Drop && self.rewrites(denies)
    }
}

#[cfg(test)]
mod tests {
    use tfo_common::{
        policy::{Class, Limit},
        rate::Rate,
    };

    use super::*;
    use crate::datapath::FastOpenState;

    const ORDINARY: Mode = Mode(0x3);
    const NO_COOKIE: Mode = Mode(0x203);

    fn rule(change: impl FnOnce(&mut PortPolicy)) -> Policy {
        let mut rule = PortPolicy::default();
        change(&mut rule);
        Policy {
            ports: [(443, rule)].into(),
            ..Policy::default()
        }
    }

    fn limited(class: Class) -> Policy {
        rule(|rule| {
            let rate = Rate {
                per_second: 1,
                burst: 1,
            };
            rule.limits[class as usize] = Limit {
                source: rate,
                port: Rate::UNLIMITED,
            };
        })
    }

    fn listener(port: u16, no_cookie: bool) -> ListeningSocket {
        ListeningSocket {
            address: ([0, 0, 0, 0], port).into(),
            device: None,
            mptcp: false,
            uid: 0,
            limit: 16,
            queue: 0,
            own_keys: 0,
            backlog: 0,
            max_backlog: 16,
            no_cookie,
            state: FastOpenState::On,
        }
    }

    #[test]
    fn rewriting_needs_listeners_that_need_cookies() {
        let bad = |action| rule(move |rule| rule.actions[Class::Bad as usize] = action);
        for (policy, fits) in [
            (bad(Action::Pass), true),
            (bad(Action::Drop), true),
            (bad(Action::Reissue), false),
            (bad(Action::Fallback), false),
            // SYNs over a limit fall back.
            (limited(Class::Bad), false),
            (limited(Class::Valid), false),
            (limited(Class::Data), false),
            // There is no deny list.
            (rule(|rule| rule.denied = Action::Fallback), true),
        ] {
            let case = format!("{policy:?}");
            assert!(policy.check_listeners(ORDINARY, &[]).is_ok(), "{case}");
            assert_eq!(
                policy.check_listeners(NO_COOKIE, &[]).is_ok(),
                fits,
                "{case}"
            );
            let one = |port, no_cookie| [listener(port, no_cookie)];
            assert_eq!(
                policy.check_listeners(ORDINARY, &one(443, true)).is_ok(),
                fits
            );
            assert!(policy.check_listeners(ORDINARY, &one(443, false)).is_ok());
            // The default rule applies there.
            assert!(policy.check_listeners(ORDINARY, &one(80, true)).is_ok());
            let mut drops = policy;
            if let Some(rule) = drops.ports.get_mut(&443) {
                rule.no_cookie = Action::Drop;
            }
            assert!(drops.check_listeners(NO_COOKIE, &one(443, true)).is_ok());
        }
    }

    #[test]
    fn the_refusal_names_rule_cause_and_remedy() {
        let mut policy = rule(|rule| rule.actions[Class::Bad as usize] = Action::Reissue);
        let error = policy
            .check_listeners(NO_COOKIE, &[])
            .unwrap_err()
            .to_string();
        for part in [
            "port 443",
            "= 515",
            "0x200",
            "--no-cookie drop",
            "[policy.port.443]",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        policy.default.actions[Class::Valid as usize] = Action::Fallback;
        let error = policy.check_listeners(ORDINARY, &[listener(80, true)]);
        let error = error.unwrap_err().to_string();
        for part in [
            "default rule",
            "0.0.0.0:80",
            "TCP_FASTOPEN_NO_COOKIE",
            "[policy.default]",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
