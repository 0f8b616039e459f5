//! `[guard]`.

use std::time::Duration;

use tfo_common::guard::GuardMode;

use super::parse;
use crate::model::Guard;

#[test]
fn a_guard_is_a_namespaces_own_or_that_of_the_top() {
    let config = parse(
        "interfaces = ['a']\n[guard]\nreplies = '7/s'\n[guard.port.443]\nmode = 'auto'\n\
         above = '5/s burst 9'\nquiet = '2m'\n\
         [[namespace]]\nname = 'blue'\ninterfaces = ['a']\n\
         [[namespace]]\nname = 'red'\ninterfaces = ['a']\n[namespace.guard]\nforce = true\n[namespace.guard.default]\nmode = 'on'\n",
    )
    .unwrap();
    let [own, blue, red] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(own.guard, blue.guard);
    assert!(red.force_guard && !own.force_guard && !blue.force_guard);
    let own = own.guard.as_ref().unwrap();
    let below = Guard::default();
    assert_eq!((own.replies.burst, own.proven), (7, below.proven));
    let rule = own.ports[&443];
    assert_eq!((rule.mode, rule.above.burst), (GuardMode::Auto, 9));
    assert_eq!((rule.quiet, own.default), (Duration::from_secs(120), None));
    let red = red.guard.as_ref().unwrap();
    assert!(red.ports.is_empty() && red.default.unwrap().mode == GuardMode::On);
    assert_eq!(red.replies, below.replies);
    let none = parse("interfaces = ['a']").unwrap();
    assert_eq!(none.namespaces[0].guard, None);
}

#[test]
fn edges_have_a_service_and_a_secret() {
    let text = |edge: &str| {
        format!("interfaces = ['a']\n[guard]\nsecret-file = '/s'\n[[guard.edge]]\n{edge}")
    };
    let one = "vip = '2001:db8::/48'\nport = 443\nmode = 'on'\nwindow-scale = 7\n";
    let config = parse(&text(one)).unwrap();
    let [own] = config.namespaces.as_slice() else {
        panic!("{config:?}")
    };
    let guard = own.guard.as_ref().unwrap();
    let (service, edge) = guard.edges.first_key_value().unwrap();
    assert_eq!(service.to_string(), "[2001:db8::/48]:443");
    assert_eq!((edge.mss, edge.window_scale), (None, Some(7)));
    assert_eq!(own.guard_secret.as_deref(), Some("/s".as_ref()));
    for (wrong, part) in [
        (
            text(&one.replace("2001:db8::/48", "www")),
            "\"www\" is no prefix",
        ),
        (text(&one.replace("2001:db8::/48", "::/0")), "every address"),
        (text(&one.replace("= 7", "= 15")), "0 to 14"),
        (text(&one.replace("window-scale = 7", "mss = 500")), "536"),
        (text(&one.replace("443", "0")), "port 0"),
        (text(&one.replace("mode = 'on'\n", "")), "add mode"),
        (
            text(&format!("{one}[[guard.edge]]\n{one}")),
            "has a section already",
        ),
        (
            text(one).replace("secret-file = '/s'\n", ""),
            "add secret-file",
        ),
    ] {
        let error = parse(&wrong).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}
