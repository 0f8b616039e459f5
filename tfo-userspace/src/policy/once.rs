//! Gaps of the action `once`: copies of a SYN that come after it is forgotten, while their cookie
//! is still good.

use std::time::Duration;

use crate::{
    datapath::{DatapathError, Namespace},
    model::{Policy, exact_time},
};

/// The time for which cookies are good; `None` where that is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct CookieLives {
    /// The time for which one of the kernel's keys is primary. Its cookies are good for twice that.
    pub interval: Option<Duration>,
    /// The time after which a cookie of the data path's own has expired.
    pub own: Option<Duration>,
}

impl CookieLives {
    /// As far as the data path knows. Only who replaces the kernel's keys knows when.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn in_force(namespace: &Namespace) -> Result<Self, DatapathError> {
        let own = namespace.own_cookies().get()?;
        Ok(Self {
            interval: None,
            own: own.and_then(|own| own.life()),
        })
    }
}

impl Policy {
    /// Why data may be taken again although a rule has the action `once`, and the remedy; `None` where no rule has it, or each
    /// SYN is remembered for as long as its cookie is good.
    pub fn once_gap(&self, lives: CookieLives) -> Option<String> {
        let memory = self.once.lifetime;
        if !self.remembers() {
            return None;
        }
        let remembers = format!("once remembers a SYN for {}", exact_time(memory));
        let again = "a copy that comes later is taken again";
        if let Some(own) = lives.own.filter(|own| *own > memory) {
            let own = exact_time(own);
            return Some(format!(
                "{remembers}, and own cookies are good for {own}: {again}: have once-lifetime be {own}, or the lifetime of the \
                 cookies shorter"
            ));
        }
        let longest = exact_time((memory / 2).max(Duration::from_secs(1)));
        match lives.interval {
            Some(interval) if 2 * interval > memory => {
                let keys = exact_time(2 * interval);
                Some(format!(
                    "{remembers}, and the kernel's cookies are good for {keys}, twice the interval of its keys: {again}: have \
                     once-lifetime be {keys}, or the interval at most {longest}"
                ))
            }
            Some(_) => None,
            None => Some(format!(
                "{remembers}, and the kernel's cookies are good until its key was replaced twice: {again}: have `tfo run` rotate \
                 keys with an interval of at most {longest}"
            )),
        }
    }

    /// Why data may be taken again by another host although a rule has the action `once`, and the remedy; `None` where no rule has
    /// it, or no other host takes this one's cookies. `shared`: other hosts take those that clients are given here.
    pub fn once_elsewhere(&self, shared: bool) -> Option<&'static str> {
        (shared && self.remembers()).then_some(
            "other hosts take this host's cookies, and each remembers its own SYNs alone: a copy that meets another host is \
             taken there: own cookies with random secrets ([cookies], source = \"random\") are good on one host",
        )
    }
}

#[cfg(test)]
mod tests {
    use tfo_common::policy::{Action, Class};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_outlives_the_memory_is_told_with_its_remedy() {
        let mut policy = Policy::default();
        let lives = |interval: u32, own: u32| CookieLives {
            interval: (interval > 0).then_some(HOUR * interval / 2),
            own: (own > 0).then_some(HOUR * own),
        };
        assert_eq!(policy.once_gap(lives(0, 0)), None, "no rule has it");
        assert_eq!(policy.once_elsewhere(true), None, "no rule has it");
        policy.default.actions[Class::Valid as usize] = Action::Once;
        policy.once.lifetime = 48 * HOUR;
        assert!(policy.once_elsewhere(true).is_some() && policy.once_elsewhere(false).is_none());
        for (case, says) in [
            ((0, 0), Some("an interval of at most 1d")),
            ((48, 0), None),
            ((49, 0), Some("good for 49h, twice the interval")),
            ((48, 48), None),
            ((48, 49), Some("own cookies are good for 49h")),
        ] {
            let (interval, own) = case;
            let gap = policy.once_gap(lives(interval, own));
            match says {
                Some(says) => assert!(gap.is_some_and(|gap| gap.contains(says)), "{case:?}"),
                None => assert_eq!(gap, None, "{case:?}"),
            }
        }
    }
}
