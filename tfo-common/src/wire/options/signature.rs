//! Signatures of TCP segments (RFC 2385, RFC 5925): which SYNs the kernel drops for theirs, before a
//! listener sees them.
//!
//! Source: Linux' `tcp_inbound_hash` with `tcp_do_parse_auth_options`; before Linux 6.7
//! `tcp_inbound_md5_hash` with `tcp_parse_md5sig_option`. They read the list of options for themselves, and
//! stop where less of it is left than a signature takes.

/// What a list of options has to do with signatures: how many bytes of it were left, from the option's
/// first to the list's end, where something came first. 0 where it did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// A broken list, a signature of an impossible size, or a second signature.
    pub fault: u8,
    /// A TCP-MD5 signature.
    pub md5: u8,
    /// A TCP-AO signature.
    pub authentication: u8,
}

/// How a kernel reads signatures, and what the listener expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureRules {
    /// The kernel drops what has a fault with so many bytes left, or more; `None` where it does not mind.
    pub fault_from: Option<u8>,
    /// The kernel drops TCP-MD5 signatures: it knows them, and the listener has no keys for any.
    pub refuses_md5: bool,
    /// The kernel drops TCP-AO signatures: it knows them, and the listener has no keys for any.
    pub refuses_authentication: bool,
}

/// Why the kernel drops a SYN before a listener sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The list of options is broken.
    Broken,
    /// A signature that the listener does not expect.
    Unexpected,
}

impl Signatures {
    /// A list without any of it.
    pub const NONE: Self = Self {
        fault: 0,
        md5: 0,
        authentication: 0,
    };

    /// Whether the kernel drops the SYN.
    #[inline(always)]
    pub const fn refusal(&self, rules: &SignatureRules) -> Option<Refusal> {
        if let Some(from) = rules.fault_from
            && self.fault >= from
        {
            return Some(Refusal::Broken);
        }
        // Where faults matter, one that comes later than the last signature that fits has no effect.
        if (rules.refuses_md5 && self.md5 > 0)
            || (rules.refuses_authentication && self.authentication > 0)
        {
            return Some(Refusal::Unexpected);
        }
        None
    }
}
