//! The check that the kernel forwards to the services for which this host challenges: for others an
//! edge answers nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tfo_common::guard::GuardMode;

use super::obstacle::{Obstacle, Weight};
use crate::{
    kernel::{routes, sysctl},
    model::{EdgeService, Guard, Prefix},
};

/// Most services that are examined.
const MOST: usize = 64;

/// Returns the obstacles to forwarding SYNs to the services of `guard`, in the calling thread's
/// namespace.
pub(super) fn obstacles(guard: &Guard) -> Vec<Obstacle> {
    let edges = guard.edges.iter();
    let active = edges.filter(|(_, edge)| edge.rule.mode != GuardMode::Off);
    let services: Vec<_> = active.map(|(service, _)| *service).take(MOST).collect();
    if services.is_empty() {
        return Vec::new();
    }
    let local = routes::local().unwrap_or_default();
    let is_local = |service: &EdgeService| {
        let holds = |prefix: &Prefix| prefix.contains(service.vip);
        local.iter().any(|(prefix, local)| *local && holds(prefix))
    };
    let has_route = |service: &EdgeService| {
        routes::output_device(None, an_address(service.vip), None).is_some()
    };
    judge(&services, sysctl::forwards, is_local, has_route)
}

/// An address of the prefix that is not the one of its network.
fn an_address(vip: Prefix) -> IpAddr {
    match vip.address {
        _ if vip.is_host() => vip.address,
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() | 1).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() | 1).into(),
    }
}

fn judge(
    services: &[EdgeService],
    forwards: impl Fn(bool) -> bool,
    is_local: impl Fn(&EdgeService) -> bool,
    has_route: impl Fn(&EdgeService) -> bool,
) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut idle = |text: String, remedy: String| {
        found.push(Obstacle {
            check: "guard and forwarding",
            found: text,
            remedy,
            weight: Weight::Idle,
        });
    };
    for (v4, key) in [
        (true, "net.ipv4.ip_forward"),
        (false, "net.ipv6.conf.all.forwarding"),
    ] {
        let concerned = services.iter().any(|it| it.vip.address.is_ipv4() == v4);
        if concerned && !forwards(v4) {
            idle(
                format!(
                    "{key} = 0: this host forwards nothing, and so challenges for no host behind it"
                ),
                format!("sysctl -w {key}=1"),
            );
        }
    }
    for service in services {
        if is_local(service) {
            let port = service.port;
            idle(
                format!("{service} is this host's own: it is not challenged for as one behind it"),
                format!("tfo guard set on --port {port}"),
            );
        } else if !has_route(service) {
            idle(
                format!("{service}: there is no route, so it is not challenged for"),
                "add the route to the hosts behind this one: `ip route`".to_owned(),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_forwarded_is_told() {
        let service = |vip: &str| EdgeService {
            vip: vip.parse().unwrap(),
            port: 443,
        };
        let [v4, v6] = [service("198.51.100.0/24"), service("2001:db8::7")];
        let texts = |forwards: bool, local: bool, route: bool| {
            let found = judge(&[v4, v6], |_| forwards, |_| local, |_| route);
            let texts = found.iter().map(Obstacle::text).collect::<Vec<_>>();
            (texts.len(), texts.join("\n"))
        };
        assert_eq!(texts(true, false, true).0, 0);
        for (found, part) in [
            (
                texts(false, false, true),
                "net.ipv6.conf.all.forwarding = 0",
            ),
            (
                texts(true, true, true),
                "198.51.100.0/24:443 is this host's own",
            ),
            (
                texts(true, false, false),
                "[2001:db8::7]:443: there is no route",
            ),
        ] {
            assert!(found.0 == 2 && found.1.contains(part), "{found:?}");
        }
        assert_eq!(an_address(v4.vip).to_string(), "198.51.100.1");
        assert_eq!(an_address(v6.vip), v6.vip.address);
    }
}
