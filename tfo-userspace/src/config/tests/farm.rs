//! Farms.

use super::*;

#[test]
fn a_farm_has_a_name_for_each_namespace_of_a_host() {
    let config = parse(
        "interfaces = ['eth0']\n[keys]\nsource = 'etcd'\ninterval = '2h'\n\
         [farm]\nendpoints = ['http://[::1]:2379']\nhost = 'web-1'\n\
         [[namespace]]\nname = '/run/netns/blue'\ninterfaces = ['eth0']\n",
    )
    .unwrap();
    let names = ["web-1", "web-1@blue"];
    for (namespace, name) in config.namespaces.iter().zip(names) {
        let farm = namespace.source.farm().unwrap();
        assert_eq!(farm.host, name);
        let hour = Duration::from_secs(3600);
        assert_eq!((farm.interval, farm.patience), (2 * hour, hour / 6));
        assert_eq!(
            (farm.prefix.as_str(), farm.state.to_str()),
            ("/tfo/", Some("/var/lib/tfo"))
        );
    }
}

#[test]
fn no_pattern_is_a_host_of_a_farm() {
    let text = "[keys]\nsource = 'etcd'\n[farm]\nendpoints = ['http://[::1]:2379']\n\
                [[namespace]]\nname = 'cni-*'\ninterfaces = ['eth0']\n";
    let error = parse(text).unwrap_err();
    assert!(
        error.contains("tfo.toml:6: ") && error.contains("another source"),
        "{error}"
    );
    let config = parse(&format!("{text}keys = {{ source = 'random' }}\n")).unwrap();
    assert_eq!(config.namespaces.len(), 1);
}

/// Invalid `[farm]` sections, and parts of their error.
const MISTAKES_OF_FARMS: &[(&str, &[&str])] = &[
    ("", &["tfo.toml:3: ", "add a section [farm]"]),
    ("[farm]", &["missing field `endpoints`"]),
    ("[farm]\nendpoints = []", &["tfo.toml:5: ", "at least one"]),
    (
        "[farm]\nendpoints = ['etcd:2379']",
        &["tfo.toml:5: ", "https://HOST:PORT"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1', 'https://b:1']",
        &["tfo.toml:5: ", "all by https"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nca = '/ca'",
        &["tfo.toml:5: ", "are for https"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nprefix = 'tfo'",
        &["tfo.toml:6: ", "end in a slash"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nhost = 'a/b'",
        &["tfo.toml:6: ", "host's name"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nuser = 'u'",
        &["tfo.toml:6: ", "goes with password"],
    ),
    (
        "[farm]\nendpoints = ['https://a:1']\nkey = '/k'",
        &["tfo.toml:6: ", "goes with certificate"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\npatience = 1",
        &["tfo.toml:6: ", "string"],
    ),
    (
        "[farm]\nendpoints = ['http://a:1']\nleast-epoch = -1",
        &["tfo.toml:6: ", "-1"],
    ),
    (
        "on-foreign-change = 'follow'\n[farm]\nendpoints = ['http://a:1']",
        &["tfo.toml:3: ", "its farm refuses"],
    ),
];

#[test]
fn mistakes_in_farms_are_told_with_their_line() {
    for (text, parts) in MISTAKES_OF_FARMS {
        ensure_refused(
            &format!("interfaces = ['a']\n[keys]\nsource = 'etcd'\n{text}"),
            parts,
        );
    }
}
