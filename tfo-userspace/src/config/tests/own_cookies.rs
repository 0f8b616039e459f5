//! The section `[cookies]`.

use super::*;
use crate::{
    config::{OwnCookieConfig, OwnSecretsConfig},
    model::OwnCookieRules,
};

fn cookies(section: &str) -> Result<Option<OwnCookieConfig>, String> {
    let parsed = parse(&format!("interfaces = [\"eth0\"]\n[cookies]\n{section}"))?;
    Ok(parsed.namespaces[0].cookies.clone())
}

#[test]
fn own_cookies_have_defaults() {
    let default = OwnCookieConfig::On {
        rules: OwnCookieRules::default(),
        secrets: OwnSecretsConfig::Random,
    };
    assert_eq!(cookies("").unwrap(), Some(default));
    assert_eq!(
        cookies("mode = \"kernel\"").unwrap(),
        Some(OwnCookieConfig::Off)
    );
    let shared = "interval = \"1h\"\nlifetime = \"3d\"\nclient-prefix-v4 = 24\nclient-prefix-v6 = 64\n\
                  service = \"web\"\nsource = \"secret\"\npath = \"/etc/tfo/cookies\"";
    let Some(OwnCookieConfig::On { rules, secrets }) = cookies(shared).unwrap() else {
        panic!("off");
    };
    assert_eq!((rules.client_v4, rules.client_v6), (24, 64));
    assert_eq!(rules.lifetime_slots(), 72);
    assert_eq!(rules.service.unwrap().to_string(), "web");
    assert_eq!(secrets, OwnSecretsConfig::Secret("/etc/tfo/cookies".into()));
    // The lifetime follows the interval.
    let Some(OwnCookieConfig::On { rules, .. }) = cookies("interval = \"1h\"").unwrap() else {
        panic!("off");
    };
    assert_eq!(rules.lifetime_slots(), 14);
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
        ("source = \"file\"", "name it, as in path ="),
        ("path = \"/etc/tfo/cookies\"", "add source, or remove path"),
        ("source = \"etcd\"", "set source = \"etcd\" in [keys], too"),
    ] {
        let told = cookies(section).unwrap_err();
        assert!(told.contains(says) && told.contains("tfo.toml:"), "{told}");
    }
}

/// In a farm the secrets change with the keys.
#[test]
fn a_farm_has_its_own_interval() {
    let farm = |section: &str| {
        let text = format!(
            "interfaces = [\"eth0\"]\n[keys]\nsource = \"etcd\"\ninterval = \"2h\"\n[farm]\nendpoints = [\"http://10.0.0.1:2379\"]\n\
             [cookies]\nsource = \"etcd\"\n{section}"
        );
        parse(&text).map(|parsed| parsed.namespaces[0].cookies.clone())
    };
    let Some(OwnCookieConfig::On { rules, secrets }) = farm("").unwrap() else {
        panic!("off");
    };
    assert_eq!(secrets, OwnSecretsConfig::Etcd);
    assert_eq!(
        (rules.interval.as_secs(), rules.lifetime_slots()),
        (7200, 14)
    );
    let told = farm("interval = \"1h\"").unwrap_err();
    assert!(told.contains("remove interval"), "{told}");
}
