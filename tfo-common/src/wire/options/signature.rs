//! Signatures of TCP segments (TCP-MD5, RFC 2385; TCP-AO, RFC 5925): which SYNs the kernel drops for theirs before a
//! listener sees them.
//!
//! Source: Linux' `tcp_inbound_hash` with `tcp_do_parse_auth_options`; before Linux 6.7
//! `tcp_inbound_md5_hash` with `tcp_parse_md5sig_option`. They walk the list of options themselves, and stop where less of
//! it is left than a signature takes.

/// Bytes of a TCP-MD5 option, and the fewest of a TCP-AO one.
pub(super) const MD5_SIZE: usize = 18;
pub(super) const AO_MIN_SIZE: usize = 5;

/// Signatures and faults in a list of options, each as the bytes of the list that were left at its first occurrence,
/// counted from the option's kind; 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// A list that breaks off, a signature of an impossible size, or a second signature.
    pub fault: u8,
    /// A TCP-MD5 signature.
    pub md5: u8,
    /// A TCP-AO signature.
    pub ao: u8,
}

/// The kernel's treatment of signatures at one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureRules {
    /// The kernel drops a SYN whose list has a fault with so many bytes left or more; `None`: it ignores faults.
    pub fault_from: Option<u8>,
    /// The kernel drops TCP-MD5 signatures: it knows them, and the listener has no keys for any.
    pub refuses_md5: bool,
    /// The kernel drops TCP-AO signatures: it knows them, and the listener has no keys for any.
    pub refuses_ao: bool,
}

/// Why the kernel drops a SYN before a listener sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// The list of options is broken.
    BrokenList,
    /// A signature that the listener does not expect.
    Unexpected,
}

impl Signatures {
    /// No signature and no fault.
    pub const NONE: Self = Self {
        fault: 0,
        md5: 0,
        ao: 0,
    };

    /// A signature covers the other options: TCP-AO's does, unless both ends agreed otherwise; TCP-MD5's does not.
    #[inline(always)]
    pub const fn cover_options(&self) -> bool {
        self.ao != 0
    }

    /// Why the kernel drops the SYN under these rules; `None` where it does not.
    #[inline(always)]
    pub const fn check(&self, rules: &SignatureRules) -> Option<SignatureFault> {
        if let Some(from) = rules.fault_from
            && self.fault >= from
        {
            return Some(SignatureFault::BrokenList);
        }
        // Where faults matter, one that comes after the last signature that fits has no effect.
        if (rules.refuses_md5 && self.md5 > 0) || (rules.refuses_ao && self.ao > 0) {
            return Some(SignatureFault::Unexpected);
        }
        None
    }
}
