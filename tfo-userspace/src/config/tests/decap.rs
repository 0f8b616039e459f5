//! The keys `decap` and `decap-from`.

use super::*;
use crate::model::Decap;

fn decap(namespace: &NamespaceConfig) -> String {
    namespace.settings.decap.to_string()
}

#[test]
fn a_namespace_has_the_tunnels_of_the_top_or_its_own_or_none() {
    let text = "interfaces = ['eth0']\ndecap = ['ipip', 'gue:6080']\ndecap-from = ['192.0.2.0/24']\n\
                [[namespace]]\nname = 'blue'\ninterfaces = ['eth0']\n\
                [[namespace]]\nname = 'red'\ninterfaces = ['eth0']\ndecap = ['gre']\ndecap-from = ['::/0']\n\
                [[namespace]]\nname = 'grey'\ninterfaces = ['eth0']\ndecap = []\n";
    let config = parse(text).unwrap();
    let all: Vec<_> = config.namespaces.iter().map(decap).collect();
    let top = "ipip, gue:6080 from 192.0.2.0/24";
    assert_eq!(all[..3], [top, top, "gre from ::/0"]);
    assert!(!config.namespaces[3].settings.decap.is_on());
    let gre = Decap::new(&["gre".parse().unwrap()], &["::/0".parse().unwrap()]);
    let flags = Flags {
        layer: Layer {
            decap: gre.ok(),
            ..Layer::default()
        },
        ..Flags::default()
    };
    let config = Config::parse(text, None, &flags).unwrap();
    let all: Vec<_> = config.namespaces.iter().map(decap).collect();
    assert_eq!(all[..3], ["gre from ::/0"; 3]);
}

#[test]
fn mistakes_have_their_line_and_remedy() {
    for (section, parts) in [
        ("decap = ['vxlan']", &["\"vxlan\"", "gue:PORT"][..]),
        ("decap = ['gue']", &["gue comes to a UDP port"]),
        ("decap = ['gre']", &["tfo.toml:2: ", "gre without sources"]),
        (
            "decap-from = ['::/0']",
            &["tfo.toml:2: ", "nothing is read through"],
        ),
        (
            "decap = ['gre', 'gre']\ndecap-from = ['::/0']",
            &["tfo.toml:2: ", "gre is named twice"],
        ),
        (
            "[[namespace]]\nname = 'blue'\ninterfaces = ['a']\ndecap = ['gre']",
            &["tfo.toml:5: ", "gre without sources"],
        ),
    ] {
        ensure_refused(&format!("interfaces = ['a']\n{section}"), parts);
    }
}
