//! The section `[cookies]`.

use std::path::PathBuf;

use super::*;
use crate::{config::OwnCookieConfig, model::OwnCookieRules};

fn cookies(section: &str) -> Result<Option<OwnCookieConfig>, String> {
    let parsed = parse(&format!("interfaces = [\"eth0\"]\n[cookies]\n{section}"))?;
    Ok(parsed.namespaces[0].cookies.clone())
}

#[test]
fn own_cookies_have_defaults() {
    let default = OwnCookieConfig::On {
        rules: OwnCookieRules::default(),
        secret: None,
    };
    assert_eq!(cookies("").unwrap(), Some(default));
    assert_eq!(
        cookies("mode = \"kernel\"").unwrap(),
        Some(OwnCookieConfig::Off)
    );
    let shared = "interval = \"1h\"\nlifetime = \"3d\"\nclient-prefix-v4 = 24\nclient-prefix-v6 = 64\n\
                  service = \"web\"\nsecret-file = \"/etc/tfo/cookies\"";
    let Some(OwnCookieConfig::On { rules, secret }) = cookies(shared).unwrap() else {
        panic!("off");
    };
    assert_eq!((rules.client_v4, rules.client_v6), (24, 64));
    assert_eq!(rules.lifetime_slots(), 72);
    assert_eq!(rules.service.unwrap().to_string(), "web");
    assert_eq!(secret, Some(PathBuf::from("/etc/tfo/cookies")));
}

#[test]
fn mistakes_have_their_line_and_remedy() {
    for (section, says) in [
        ("mode = \"kernel\"\ninterval = \"1h\"", "has no rules"),
        (
            "interval = \"1h\"\nlifetime = \"90m\"",
            "1 to 100 whole intervals",
        ),
        ("client-prefix-v6 = 48", "give 64 to 128"),
        ("service = \"a b\"", "letters, digits"),
        ("lifetme = \"1d\"", "unknown field"),
    ] {
        let told = cookies(section).unwrap_err();
        assert!(told.contains(says) && told.contains("tfo.toml:"), "{told}");
    }
}
