//! What a host reports of itself.

use serde::{Deserialize, Serialize};

use super::guard_record::{GuardRecord, readable};

/// The value of `hosts/NAME`: what a host reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// The farm.
    pub farm: String,
    /// Random; distinguishes it from another host that was given the same name.
    pub instance: String,
    /// The version of its `tfo`.
    pub version: String,
    /// The lease of its session with etcd.
    pub lease: Option<i64>,
    /// The step that it has in force; see [`crate::farm::Position::step`].
    pub step: Option<u64>,
    /// The term in which it acknowledged that step.
    pub term: String,
    /// A host that has stored no document: what the leader has to repeat for it.
    pub challenge: Option<String>,
    /// A host that asks to be admitted: the number of the document that it asks on.
    pub seen: Option<u64>,
    /// The digest of the rules of the own cookies that it takes; see [`crate::model::OwnCookieRules::digest`].
    pub own_cookies: Option<String>,
    /// The fingerprint of the key that its kernel issues cookies with.
    pub primary: Option<String>,
    /// Its clock minus the clock of the host that wrote the document, in seconds.
    pub skew: Option<f64>,
    /// The guard that it has in force; `None` of a version that does not tell.
    #[serde(deserialize_with = "readable")]
    pub guard: Option<GuardRecord>,
    /// Why it does not follow the farm.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Records of versions that tell of no guard, or in another way, are read.
    #[test]
    fn a_record_without_a_guard_is_a_record() {
        let earlier = json!({
            "farm": "f", "instance": "i", "version": "0.1.0", "lease": 7, "step": 6, "term": "t", "challenge": null,
            "seen": null, "own_cookies": null, "primary": "5a5a5a5a", "skew": 0.5, "error": null,
        });
        let read = |guard: Option<Value>| {
            let mut record = earlier.clone();
            if let Some(guard) = guard {
                record["guard"] = guard;
            }
            serde_json::from_value::<HostRecord>(record).unwrap()
        };
        let without = read(None);
        assert!(without.step == Some(6) && without.guard.is_none());
        for other in [
            json!(null),
            json!("on"),
            json!({"takes": ["http"]}),
            json!({"options": ["fast_open"]}),
        ] {
            assert_eq!(read(Some(other)), without);
        }
        let with = read(Some(json!({
            "takes": [0, 443], "secret": "5a5a5a5a", "window_scale": 7, "options": ["sack", "ecn"],
            "addresses": ["198.51.100.7/32"], "edges": {"[2001:db8::/48]:443": 9}, "later": 1,
        })));
        let guard = with.guard.clone().unwrap();
        assert!(
            guard.takes == [0, 443].into() && guard.window_scale == 7,
            "{guard:?}"
        );
        assert_eq!(
            guard.edges,
            [("[2001:db8::/48]:443".parse().unwrap(), Some(9))].into()
        );
        let text = serde_json::to_vec(&with).unwrap();
        assert_eq!(serde_json::from_slice::<HostRecord>(&text).unwrap(), with);
    }
}
