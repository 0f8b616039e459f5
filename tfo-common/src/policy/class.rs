//! The classes by which policies tell SYNs apart.

use super::action::Action;
use crate::{classify::Outcome, numbered::numbered, wire::syn::Syn};

numbered! {
    /// The class of a SYN, by which rules and limits tell SYNs apart.
    pub enum Class: u8 else Data {
        /// A cookie of one of the keys.
        Valid = "valid",
        /// A cookie of no key, or of a length that is never issued.
        Bad = "bad",
        /// A cookie request.
        Request = "request",
        /// Data without an option that counts. The kernel takes it only where it needs no cookie.
        Data = "data",
    }
}

impl Class {
    /// The class of `syn` with this cookie outcome; `None` where it has neither an option nor data.
    #[inline(always)]
    pub const fn of(syn: &Syn, cookie: Outcome) -> Option<Self> {
        match cookie {
            Outcome::Primary | Outcome::Backup => Some(Self::Valid),
            Outcome::BadCookie | Outcome::BadLength => Some(Self::Bad),
            Outcome::Request => Some(Self::Request),
            _ if syn.data_len > 0 => Some(Self::Data),
            _ => None,
        }
    }

    /// The action on a SYN that exceeds a limit. Others share the limit, so no limit drops a SYN.
    pub const OVER_LIMIT: Action = Action::Fallback;
}
