//! Packets that a load balancer sends through a tunnel, and answers that go to the client directly: in traffic control, since
//! XDP answers by the device that a SYN came by.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    netns::Netns,
    socket::{Connection, Listener, Method},
    testbed::{REQUEST, Testbed},
    tun::Tun,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

const TUNNEL: &str = "tunnel0";

fn tunnel(netns: &Netns) -> Result<Tun> {
    let tunnel = Tun::new(netns, TUNNEL)?;
    netns.configure(&[format!("link set {TUNNEL} up")])?;
    for interface in ["all", TUNNEL, CLIENT_INTERFACE, SERVER_INTERFACE] {
        // Each end has one of the veth interfaces.
        let _ = netns.set_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0");
    }
    Ok(tunnel)
}

/// A client whose packets reach the server by the tunnel, and the server's packets it by veth.
struct DirectReturn {
    testbed: Testbed,
    listener: Listener,
    near: Tun,
    far: Tun,
}

impl DirectReturn {
    /// `tfo` on these interfaces of the server.
    fn new(interfaces: &[&str]) -> Result<Self> {
        let mut testbed = Testbed::idle(Pair::new()?)?;
        let (client, server) = (&testbed.pair.client, &testbed.pair.server);
        let (near, far) = (tunnel(client)?, tunnel(server)?);
        for family in Family::BOTH {
            let (vip, own) = (family.vip(), family.client());
            client.configure(&[format!("route add {vip} dev {TUNNEL} src {own}")])?;
            server.configure(&[format!("addr add {vip} dev lo")])?;
        }
        // Of IPv6, the kernel would ask from an address of the link, which it has none here.
        let own = Family::V4.client();
        server.configure(&[format!("neigh del {own} dev {SERVER_INTERFACE}")])?;
        testbed.tfo.done(&[&["attach"][..], interfaces].concat())?;
        testbed.restart()?;
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        let listener = Listener::fast_open(&testbed.pair.server, any)?;
        Ok(Self {
            testbed,
            listener,
            near,
            far,
        })
    }

    /// Runs `work` while the tunnel carries packets.
    fn joined(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let pump = scope.spawn(|| self.near.tunnel(&self.far, &ended));
            let done = work();
            ended.store(true, Ordering::Relaxed);
            pump.join().expect("no panic")?;
            done
        })
    }

    /// A request and a reply. `true` if the request was taken from the SYN.
    fn visit(&self, family: Family, method: Method) -> Result<bool> {
        let to = SocketAddr::new(family.vip(), self.listener.port());
        let connection = Connection::open(&self.testbed.pair.client, to, method, REQUEST)?;
        let accepted = self.listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        accepted.send(REQUEST)?;
        ensure!(connection.receive()? == REQUEST);
        Ok(connection.info()?.syn_data_taken)
    }
}

/// The guard's answer gets the headers of the device by which it leaves, to a next hop that the kernel may have to look for.
#[test]
fn answers_to_what_came_by_a_tunnel_leave_directly() -> Result<()> {
    let network = DirectReturn::new(&[TUNNEL])?;
    let tfo = &network.testbed.tfo;
    network.joined(|| {
        tfo.done(&["guard", "set", "on"])?;
        for family in Family::BOTH {
            ensure!(!network.visit(family, Method::Plain)?);
            ensure!(!network.visit(family, Method::SendTo)?, "a cookie came");
            ensure!(network.visit(family, Method::SendTo)?, "data was not taken");
        }
        tfo.done(&["guard", "clear"])?;
        for family in Family::BOTH {
            ensure!(network.visit(family, Method::SendTo)?, "data was not taken");
        }
        Ok(())
    })?;
    let counted = network.testbed.equal()?.counters;
    ensure!(counted["GuardChallenged"] == 4, "{counted:?}");
    ensure!(counted["GuardAccepted"] == 4, "{counted:?}");
    ensure!(counted["GuardUnanswered"] == 0, "{counted:?}");
    Ok(())
}

/// SYN-ACKs get own cookies where they leave, SYNs are translated where they arrive.
#[test]
fn own_cookies_are_issued_by_one_interface_and_taken_by_another() -> Result<()> {
    let network = DirectReturn::new(&[TUNNEL, SERVER_INTERFACE])?;
    network.testbed.tfo.done(&["cookies", "set"])?;
    network.joined(|| {
        for family in Family::BOTH {
            ensure!(!network.visit(family, Method::SendTo)?, "a cookie came");
            ensure!(network.visit(family, Method::SendTo)?, "data was not taken");
        }
        Ok(())
    })?;
    let counted = network.testbed.equal()?.counters;
    ensure!(
        counted["OwnIssued"] == 2 && counted["OwnYoung"] == 2,
        "{counted:?}"
    );
    Ok(())
}
