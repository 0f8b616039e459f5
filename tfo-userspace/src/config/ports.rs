//! Sections that have a `default` and a `port.N` for each port.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

/// Why a section was refused.
#[derive(Debug, thiserror::Error)]
#[error("[{section}] {message}")]
pub(super) struct SectionError {
    /// The section's name.
    pub(super) section: String,
    /// The mistake and its remedy.
    pub(super) message: String,
    /// The bytes of a section below the one that was parsed.
    pub(super) at: Option<Range<usize>>,
}

/// Applies `rule` to `[NAME.default]` and to each `[NAME.port.N]`.
///
/// # Errors
///
/// [`SectionError`] with the message of `rule`, or where `N` is no port or is given twice (`80` and `080`).
pub(super) fn rules_by_port<S, R>(
    name: &str,
    default: Option<&Spanned<S>>,
    ports: &BTreeMap<String, Spanned<S>>,
    rule: impl Fn(&S) -> Result<R, String>,
) -> Result<(Option<R>, BTreeMap<u16, R>), SectionError> {
    let wrong = |label: &str, section: &Spanned<S>, message| SectionError {
        section: format!("{name}.{label}"),
        message,
        at: Some(section.span()),
    };
    let default = match default {
        Some(section) => {
            let rule = rule(section.get_ref());
            Some(rule.map_err(|message| wrong("default", section, message))?)
        }
        None => None,
    };
    let mut rules = BTreeMap::new();
    for (number, section) in ports {
        let wrong = |message| wrong(&format!("port.{number}"), section, message);
        let port = number.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| wrong(format!("port {number:?} is not from 1 to 65535")))?;
        let rule = rule(section.get_ref()).map_err(wrong)?;
        if rules.insert(port, rule).is_some() {
            return Err(wrong(format!("port {port} has a section already")));
        }
    }
    Ok((default, rules))
}
