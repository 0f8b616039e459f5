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
