//! The actions of a policy.

use crate::{numbered::numbered, wire::rewrite::Rewrite};

numbered! {
    /// An action of a policy on a SYN.
    #[derive(Default)]
    pub enum Action: u8 else Pass {
        /// Nothing.
        #[default]
        Pass = "pass",
        /// The cookie becomes a request: the kernel takes no data, and issues a cookie of its primary key.
        Reissue = "reissue",
        /// The Fast Open option becomes NOPs: an ordinary handshake.
        Fallback = "fallback",
        /// The SYN is dropped.
        Drop = "drop",
        /// The data is taken at most once: of a SYN that came before, the cookie becomes a request. For [`super::Class::Valid`]
        /// alone; see [`super::once`].
        Once = "once",
    }
}

impl Action {
    /// Those that need no memory of earlier SYNs, so that they suit other classes than [`super::Class::Valid`], too.
    pub const WITHOUT_MEMORY: [Self; 4] = [Self::Pass, Self::Reissue, Self::Fallback, Self::Drop];

    /// The rewrite of the SYN's option, if the action is one.
    #[inline(always)]
    pub const fn rewrite(self) -> Option<Rewrite> {
        match self {
            Self::Reissue => Some(Rewrite::Request),
            Self::Fallback => Some(Rewrite::Absent),
            Self::Pass | Self::Drop | Self::Once => None,
        }
    }
}
