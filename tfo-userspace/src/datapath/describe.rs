//! What came of attaching, in words.

use super::Attached;
use crate::keys::Fingerprint;

impl Attached {
    /// A line, or more where something is not as it could be.
    pub fn describe(&self, interface: &str) -> String {
        let Self {
            mode,
            not_native,
            mirror,
            not_exact,
            program_id,
            keys,
        } = self;
        let mut text = format!(
            "{interface}: attached in {mode} mode (program {program_id}), {mirror} mirror, primary key {}\n",
            Fingerprint::of(&keys.primary)
        );
        if let Some(reason) = not_exact {
            text += &format!("{interface}: packet-level mirror: {reason}\n");
        }
        if let Some(reason) = not_native {
            text += &format!("{interface}: not native, which is faster: {reason}\n");
        }
        text
    }
}
