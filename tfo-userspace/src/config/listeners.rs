//! The section `[listeners]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{
    ports::{SectionError, rules_by_port},
    values::Bounded,
};
use crate::listeners::DEFAULT_QUEUE;

/// `[listeners]`. It has no `default`: Fast Open is for applications that can take a request twice, which somebody has to know.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct ListenersSection {
    /// `[listeners.port.N]`, by N.
    port: BTreeMap<String, Spanned<PortListenersSection>>,
}

/// `[listeners.port.N]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PortListenersSection {
    queue: Option<Bounded<1, 65_535>>,
    process: Option<String>,
}

/// Fast Open for the listeners of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortListeners {
    /// `TCP_FASTOPEN`.
    pub queue: u32,
    /// The name of the process that has to hold them; `None` for any.
    pub process: Option<String>,
}

impl ListenersSection {
    pub(super) fn ports(&self) -> Result<BTreeMap<u16, PortListeners>, SectionError> {
        let rule = |section: &PortListenersSection| {
            Ok(PortListeners {
                queue: section.queue.map_or(DEFAULT_QUEUE, Bounded::get),
                process: section.process.clone(),
            })
        };
        let (_, ports) = rules_by_port("listeners", None, &self.port, rule)?;
        if ports.is_empty() {
            return Err(SectionError {
                section: "listeners".to_owned(),
                message: "it names no port: add [listeners.port.443], or remove the section"
                    .to_owned(),
                at: None,
            });
        }
        Ok(ports)
    }
}
